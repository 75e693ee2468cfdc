-- Media tokens are signed, and a row is written when one is used, by the socket that used it.

ALTER TABLE call_tokens ADD COLUMN used_by uuid;
