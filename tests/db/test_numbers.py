import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest

from db import accounts, number_fallbacks, numbers, templates
from db.errors import InvalidValue, NotFound, NumberInUse, NumberNotAssigned, NumberTaken, RevisionConflict
from db.numbers import NumberDraft, NumberFilter
from db.pool import Database
from tests.db.seed import SeededAccount, draft

SPARE = NumberDraft(e164="+14155550199", carrier="twilio", label="spare")


async def test_a_number_is_active_once_with_a_carrier(database: Database, seeded: SeededAccount) -> None:
    """A second row is refused, even of another account or inactive; another carrier's is not."""
    other = await accounts.create(database, "Other")
    taken = NumberDraft(e164=seeded.number.e164, carrier="twilio")

    for account_id in (seeded.id, other.id):
        with pytest.raises(NumberTaken):
            await numbers.create(database, account_id, taken)
    await numbers.create(database, other.id, replace(taken, carrier="exotel"))
    with pytest.raises(NumberTaken):
        await numbers.create(database, other.id, replace(taken, active=False))
    spare = await numbers.create(database, other.id, SPARE)
    with pytest.raises(NumberTaken):
        await numbers.update(database, other.id, spare.id, taken, expected_revision=1)


async def test_a_paused_number_stays_its_owners(database: Database, seeded: SeededAccount) -> None:
    """While its owner has paused it, no other account can register it, and the owner can resume it."""
    other = await accounts.create(database, "Other")
    mine = NumberDraft(e164=seeded.number.e164, carrier="twilio")
    paused = await numbers.update(
        database, seeded.id, seeded.number.id, replace(mine, active=False), expected_revision=1
    )

    for active in (True, False):
        with pytest.raises(NumberTaken):
            await numbers.create(database, other.id, replace(mine, active=active))
    resumed = await numbers.update(database, seeded.id, paused.id, mine, expected_revision=paused.revision)
    assert resumed.active


async def test_only_an_assigned_number_can_be_registered_where_numbers_are_assigned(
    database: Database, seeded: SeededAccount
) -> None:
    """An unassigned number is refused, as a new number and as a change; an assigned one is the account's."""
    other = await accounts.create(database, "Other")
    with pytest.raises(NumberNotAssigned):
        await numbers.create(database, seeded.id, SPARE, assigned_only=True)
    await numbers.assign(database, seeded.id, SPARE.e164)
    with pytest.raises(NumberNotAssigned):
        await numbers.create(database, other.id, SPARE, assigned_only=True)
    spare = await numbers.create(database, seeded.id, SPARE, assigned_only=True)

    moved = replace(SPARE, e164="+14155550198")
    with pytest.raises(NumberNotAssigned):
        await numbers.update(database, seeded.id, spare.id, moved, expected_revision=1, assigned_only=True)
    relabelled = replace(SPARE, label="other")
    await numbers.update(database, seeded.id, spare.id, relabelled, expected_revision=1, assigned_only=True)


async def test_an_assigned_number_is_reserved_where_numbers_are_open(
    database: Database, seeded: SeededAccount
) -> None:
    """Another account cannot register it first; a number of an account is not assigned to another."""
    other = await accounts.create(database, "Other")
    await numbers.assign(database, seeded.id, SPARE.e164)
    with pytest.raises(NumberNotAssigned):
        await numbers.create(database, other.id, SPARE)
    await numbers.assign(database, other.id, SPARE.e164)
    await numbers.create(database, other.id, SPARE)
    with pytest.raises(NumberTaken):
        await numbers.assign(database, seeded.id, SPARE.e164)


async def test_an_assignment_and_a_registration_at_the_same_time_agree(
    database: Database, seeded: SeededAccount
) -> None:
    """Of an assignment to an account and a registration by another, exactly one succeeds."""
    other = await accounts.create(database, "Other")
    for number in range(20):
        draft = replace(SPARE, e164=f"+1415555{number:04}")
        results = await asyncio.gather(
            numbers.create(database, other.id, draft),
            numbers.assign(database, seeded.id, draft.e164),
            return_exceptions=True,
        )
        assert sum(isinstance(one, NumberTaken | NumberNotAssigned) for one in results) == 1, results


@pytest.mark.parametrize("e164", ["", "14155550199", "+1 415"])
async def test_an_assignment_is_checked(database: Database, seeded: SeededAccount, e164: str) -> None:
    """A malformed number and an unknown account are refused."""
    with pytest.raises(InvalidValue):
        await numbers.assign(database, seeded.id, e164)
    with pytest.raises(NotFound):
        await numbers.assign(database, uuid4(), SPARE.e164)


@pytest.mark.parametrize("e164", ["", "14155550199", "+0415", "+1 415", "+12345678901234567", "+1415\n"])
async def test_a_number_is_e164(database: Database, seeded: SeededAccount, e164: str) -> None:
    """Every other format is refused, for a number and for a fallback number."""
    with pytest.raises(InvalidValue):
        await numbers.create(database, seeded.id, replace(SPARE, e164=e164))
    with pytest.raises(InvalidValue):
        await numbers.create(database, seeded.id, replace(SPARE, fallback_number=e164))


async def test_an_update_wants_the_revision_it_read(database: Database, seeded: SeededAccount) -> None:
    """A stale update changes nothing."""
    spare = await numbers.create(database, seeded.id, SPARE)
    renamed = await numbers.update(
        database, seeded.id, spare.id, replace(SPARE, label="x"), expected_revision=1
    )

    with pytest.raises(RevisionConflict) as caught:
        await numbers.update(database, seeded.id, spare.id, SPARE, expected_revision=1)
    assert caught.value.current == 2
    assert await numbers.get(database, seeded.id, spare.id) == renamed


async def test_a_number_with_templates_cannot_be_deleted(database: Database, seeded: SeededAccount) -> None:
    """The templates are named; once they are gone the number goes, and may be had anew."""
    with pytest.raises(NumberInUse) as caught:
        await numbers.delete(database, seeded.id, seeded.number.id, expected_revision=1)
    assert caught.value.template_ids == (seeded.front.id,)

    await templates.delete(database, seeded.id, seeded.front.id, expected_revision=1)
    await numbers.delete(database, seeded.id, seeded.number.id, expected_revision=1)
    with pytest.raises(NotFound):
        await numbers.get(database, seeded.id, seeded.number.id)
    await numbers.create(database, seeded.id, NumberDraft(e164=seeded.number.e164, carrier="twilio"))


async def test_a_deletion_wants_the_revision_it_read(database: Database, seeded: SeededAccount) -> None:
    """A stale deletion deletes nothing, and an unknown number is named."""
    spare = await numbers.create(database, seeded.id, SPARE)

    with pytest.raises(RevisionConflict):
        await numbers.delete(database, seeded.id, spare.id, expected_revision=2)
    with pytest.raises(NotFound):
        await numbers.delete(database, seeded.id, uuid4(), expected_revision=1)
    assert await numbers.get(database, seeded.id, spare.id) == spare


async def test_numbers_are_listed_newest_first_and_narrowed(
    database: Database, seeded: SeededAccount
) -> None:
    """Carrier, number and activity narrow the list."""
    asleep = await numbers.create(database, seeded.id, replace(SPARE, active=False, carrier="exotel"))

    async def listed(where: NumberFilter) -> list[object]:
        return [n.id for n in (await numbers.list_numbers(database, seeded.id, where, limit=10)).items]

    assert await listed(NumberFilter()) == [asleep.id, seeded.number.id]
    assert await listed(NumberFilter(active=True)) == [seeded.number.id]
    assert await listed(NumberFilter(carrier="exotel", e164=SPARE.e164)) == [asleep.id]


async def test_the_version_of_the_fallbacks_changes_with_numbers_and_orchestrators(
    database: Database, seeded: SeededAccount
) -> None:
    """Each change that a process has to copy has another version; other changes may have the same."""
    versions = [await number_fallbacks.version(database)]
    spare = await numbers.create(database, seeded.id, SPARE)
    versions.append(await number_fallbacks.version(database))
    await numbers.update(
        database, seeded.id, spare.id, replace(SPARE, fallback_number="+14155559999"), expected_revision=1
    )
    versions.append(await number_fallbacks.version(database))
    await numbers.delete(database, seeded.id, spare.id, expected_revision=2)
    versions.append(await number_fallbacks.version(database))
    await templates.delete(database, seeded.id, seeded.front.id, expected_revision=1)
    other = draft("other", kind="orchestrator", number_id=seeded.number.id)
    await templates.create(database, seeded.id, other)
    versions.append(await number_fallbacks.version(database))
    await database.execute("UPDATE templates SET revision = revision + 1 WHERE number_id IS NOT NULL")
    versions.append(await number_fallbacks.version(database))
    assert len(set(versions)) == len(versions)
