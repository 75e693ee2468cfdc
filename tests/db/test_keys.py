from uuid import uuid4

import pytest

from db import audit, keys
from db.audit import Change
from db.errors import ConstraintViolated, KeyRefused, NotFound
from db.pool import Database
from tests.db.world import World


async def test_a_key_opens_its_account(database: Database, world: World) -> None:
    """The key tells account and role, and its use is remembered."""
    made = await keys.create(database, world.id, "author", label="laptop")

    found = await keys.authenticate(database, made.key)
    assert found == made.record
    assert (found.account_id, found.role, found.label) == (world.id, "author", "laptop")
    assert made.key.startswith(found.prefix)
    assert (await keys.get(database, world.id, found.id)).last_used_at is not None


@pytest.mark.parametrize("key", ["", "vb_guess", "\0", "é"])
async def test_an_unknown_key_is_refused(database: Database, world: World, key: str) -> None:
    """Whatever a stranger sends is refused in the same way."""
    with pytest.raises(KeyRefused):
        await keys.authenticate(database, key)


async def test_a_revoked_key_is_refused_for_good(database: Database, world: World) -> None:
    """Revoking again keeps the first time; the key stays in the list."""
    first = await keys.revoke(database, world.id, world.key.record.id)
    again = await keys.revoke(database, world.id, world.key.record.id)

    assert first.revoked_at is not None
    assert again == first
    with pytest.raises(KeyRefused):
        await keys.authenticate(database, world.key.key)
    assert list((await keys.list_keys(database, world.id, limit=10)).items) == [first]


async def test_the_key_itself_is_not_stored(database: Database, world: World) -> None:
    """Who reads the table cannot use a key."""
    row = await database.fetchrow("SELECT string_agg(api_keys::text, '') AS everything FROM api_keys")

    assert row is not None
    assert world.key.key not in row["everything"]
    assert world.key.key.encode().hex() not in row["everything"]


async def test_a_key_needs_an_account_and_a_role(database: Database, world: World) -> None:
    """An unknown account is named, and the schema refuses a role that is none."""
    with pytest.raises(NotFound, match="account"):
        await keys.create(database, uuid4(), "owner")
    with pytest.raises(ConstraintViolated):
        await keys.create(database, world.id, "god")  # type: ignore[arg-type]


async def test_changes_are_listed_newest_first(database: Database, world: World) -> None:
    """Who did what to what, with the revisions before and after, for all resources or for one."""
    mine = Change(
        key_id=world.key.record.id, action="update", resource="template", resource_id=world.front.id,
        revision_before=1, revision_after=2, data={"changed": ["name"]},
    )  # fmt: skip
    await audit.record(database, world.id, mine)
    await audit.record(
        database, world.id, Change(key_id=None, action="create", resource="key", resource_id=uuid4())
    )

    everything = (await audit.list_changes(database, world.id, limit=10)).items
    assert [change.action for change in everything] == ["create", "update"]
    [change] = (await audit.list_changes(database, world.id, resource_id=world.front.id, limit=10)).items
    assert (change.key_id, change.revision_before, change.revision_after, change.data) == (
        world.key.record.id, 1, 2, {"changed": ["name"]},
    )  # fmt: skip


async def test_a_change_that_is_undone_was_never_made(database: Database, world: World) -> None:
    """The record of a change goes with the transaction that makes it."""

    async def change_and_fail() -> None:
        async with database.transaction() as transaction:
            change = Change(key_id=None, action="delete", resource="template", resource_id=world.front.id)
            await audit.record(transaction, world.id, change)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await change_and_fail()
    assert (await audit.list_changes(database, world.id, limit=10)).items == []
