import itertools
from collections.abc import Mapping
from typing import get_args
from uuid import uuid4

import pytest

from db import audit, keys, users
from db.audit import AuditFilter, Change
from db.errors import ConstraintViolated, KeyRefused, NotFound
from db.keys import Role
from db.pool import Database
from db.users import UserDraft
from tests.db.seed import SeededAccount

POWERS: Mapping[Role, frozenset[str]] = {
    "owner": frozenset({"read", "dial", "write", "take over", "administer", "own"}),
    "admin": frozenset({"read", "dial", "write", "take over", "administer"}),
    "author": frozenset({"read", "dial", "write"}),
    "operator": frozenset({"read", "dial", "take over"}),
    "viewer": frozenset({"read"}),
}


@pytest.fixture
def database(module_database: Database) -> Database:
    """The tests look at their own account only."""
    return module_database


async def test_a_key_opens_its_account(database: Database, seeded: SeededAccount) -> None:
    """A key identifies the account and role, and its last use is stored."""
    made = await keys.create(database, seeded.id, "author", label="laptop")

    found = await keys.authenticate(database, made.key)
    assert found == made.record
    assert (found.account_id, found.role, found.label) == (seeded.id, "author", "laptop")
    assert made.key.startswith(found.prefix)
    assert (await keys.get(database, seeded.id, found.id)).last_used_at is not None


@pytest.mark.parametrize("key", ["", "vb_guess", "\0", "é"])
@pytest.mark.usefixtures("seeded")
async def test_an_unknown_key_is_refused(database: Database, key: str) -> None:
    """Every unknown key is refused with the same error."""
    with pytest.raises(KeyRefused):
        await keys.authenticate(database, key)


async def test_a_revoked_key_is_refused_for_good(database: Database, seeded: SeededAccount) -> None:
    """Revoking again keeps the first time; the key stays in the list."""
    first = await keys.revoke(database, seeded.id, seeded.key.record.id)
    again = await keys.revoke(database, seeded.id, seeded.key.record.id)

    assert first.record.revoked_at is not None
    assert (first.first, again.first) == (True, False)
    assert again.record == first.record
    with pytest.raises(KeyRefused):
        await keys.authenticate(database, seeded.key.key)
    assert list((await keys.list_keys(database, seeded.id, limit=10)).items) == [first.record]


ROLES: tuple[Role, ...] = get_args(Role)


@pytest.mark.parametrize(("key_role", "person_role"), list(itertools.product(ROLES, ROLES)))
def test_the_least_of_two_roles_allows_what_both_allow(key_role: Role, person_role: Role) -> None:
    """It is the strongest role that allows nothing which one of them does not allow."""
    both = POWERS[key_role] & POWERS[person_role]
    fitting = [role for role in ROLES if POWERS[role] <= both]
    assert keys.least(key_role, person_role) == max(fitting, key=lambda role: len(POWERS[role]))


async def test_a_key_allows_no_more_than_its_person(database: Database, seeded: SeededAccount) -> None:
    """The role of the person a key speaks for bounds it as it is then; a higher one adds nothing."""
    person = await users.create(database, seeded.id, UserDraft(name="Ada", role="admin"))
    made = await keys.create(database, seeded.id, "admin", user_id=person.id)

    async def allowed() -> set[Role]:
        found = await keys.authenticate(database, made.key)
        again = await keys.get_valid(database, seeded.id, found.id)
        return {found.role, again.role}

    roles: list[tuple[Role, Role]] = [
        ("owner", "admin"), ("author", "author"), ("viewer", "viewer"), ("admin", "admin"),
    ]  # fmt: skip
    for role, expected in roles:
        await users.update(database, seeded.id, person.id, UserDraft(name="Ada", role=role))
        assert await allowed() == {expected}
    assert (await keys.get(database, seeded.id, made.record.id)).role == "admin"


@pytest.mark.parametrize("deleted", [True, False])
async def test_key_of_an_inactive_person_is_refused(
    database: Database, seeded: SeededAccount, deleted: bool
) -> None:
    """All keys of a deactivated or deleted person are refused."""
    person = await users.create(database, seeded.id, UserDraft(name="Ada", role="admin"))
    made = await keys.create(database, seeded.id, "viewer", user_id=person.id)
    if deleted:
        await users.delete(database, seeded.id, person.id)
    else:
        await users.update(database, seeded.id, person.id, UserDraft(name="Ada", role="admin", active=False))
    with pytest.raises(KeyRefused):
        await keys.authenticate(database, made.key)
    with pytest.raises(KeyRefused):
        await keys.get_valid(database, seeded.id, made.record.id)


async def test_the_key_itself_is_not_stored(database: Database, seeded: SeededAccount) -> None:
    """The table contains only a hash of the key."""
    row = await database.fetchrow("SELECT string_agg(api_keys::text, '') AS everything FROM api_keys")

    assert row is not None
    assert seeded.key.key not in row["everything"]
    assert seeded.key.key.encode().hex() not in row["everything"]


async def test_a_key_needs_an_account_and_a_role(database: Database, seeded: SeededAccount) -> None:
    """An unknown account is named, and the schema refuses a role that is none."""
    with pytest.raises(NotFound, match="account"):
        await keys.create(database, uuid4(), "owner")
    with pytest.raises(ConstraintViolated):
        await keys.create(database, seeded.id, "god")  # type: ignore[arg-type]


async def test_changes_are_listed_newest_first(database: Database, seeded: SeededAccount) -> None:
    """Who did what to what, with the revisions before and after, for all resources or for one."""
    mine = Change(
        key_id=seeded.key.record.id, action="update", resource="template", resource_id=seeded.front.id,
        revision_before=1, revision_after=2, data={"changed": ["name"]},
    )  # fmt: skip
    await audit.record(database, seeded.id, mine)
    await audit.record(
        database, seeded.id, Change(key_id=None, action="create", resource="key", resource_id=uuid4())
    )

    everything = (await audit.list_changes(database, seeded.id, AuditFilter(), limit=10)).items
    assert [change.action for change in everything] == ["create", "update"]
    [change] = (
        await audit.list_changes(database, seeded.id, AuditFilter(resource_id=seeded.front.id), limit=10)
    ).items
    assert (change.key_id, change.revision_before, change.revision_after, change.data) == (
        seeded.key.record.id, 1, 2, {"changed": ["name"]},
    )  # fmt: skip


async def test_a_change_that_is_undone_was_never_made(database: Database, seeded: SeededAccount) -> None:
    """The record of a change goes with the transaction that makes it."""

    async def change_and_fail() -> None:
        async with database.transaction() as transaction:
            change = Change(key_id=None, action="delete", resource="template", resource_id=seeded.front.id)
            await audit.record(transaction, seeded.id, change)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await change_and_fail()
    assert (await audit.list_changes(database, seeded.id, AuditFilter(), limit=10)).items == []
