-- A call is recorded while its caller hears a menu: the agents of the menu, by their keys from 1. Null: there was none, or one
-- of them has been chosen.
ALTER TABLE calls ADD COLUMN offered_template_ids uuid[];
