from dataclasses import replace
from uuid import uuid4

import pytest

from db import leads, templates
from db.call_start import read_start
from db.errors import NotFound
from db.pool import Database
from tests.db.seed import SeededAccount, draft


async def test_a_call_begins_with_its_revision_its_number_and_its_lead(
    database: Database, seeded: SeededAccount
) -> None:
    """The template is at the revision that the call keeps, even after a later save."""
    await leads.keep_variables(database, seeded.id, seeded.call.lead_id, {"customer": "Ada"})
    front = draft("front desk", kind="orchestrator", number_id=seeded.number.id)
    saved = await templates.update(
        database, seeded.id, seeded.front.id, replace(front, content={"prompt": "New."}), expected_revision=1
    )
    assert saved.revision == 2

    start = await read_start(database, seeded.call)

    assert (start.template.id, start.template.revision) == (seeded.front.id, 1)
    assert start.template.content == seeded.front.content
    assert (start.time_zone, start.payload) == (seeded.number.time_zone, {"customer": "Ada"})
    newest = await read_start(database, replace(seeded.call, revisions={}))
    assert (newest.template.revision, newest.template.content) == (2, {"prompt": "New."})


async def test_nothing_of_another_account_begins_a_call(database: Database, seeded: SeededAccount) -> None:
    """The rows are looked up with the account of the call."""
    with pytest.raises(NotFound):
        await read_start(database, replace(seeded.call, account_id=uuid4()))
