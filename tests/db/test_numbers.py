from dataclasses import replace
from uuid import uuid4

import pytest

from db import accounts, numbers, templates
from db.errors import InvalidValue, NotFound, NumberInUse, NumberTaken, RevisionConflict
from db.numbers import NumberDraft, NumberFilter
from db.pool import Database
from tests.db.seed import SeededAccount

SPARE = NumberDraft(e164="+14155550199", carrier="twilio", label="spare")


async def test_a_number_is_active_once_with_a_carrier(database: Database, seeded: SeededAccount) -> None:
    """A second active row is refused even to another account; an inactive one or another carrier's is not."""
    other = await accounts.create(database, "Other")
    taken = NumberDraft(e164=seeded.number.e164, carrier="twilio")

    for account_id in (seeded.id, other.id):
        with pytest.raises(NumberTaken):
            await numbers.create(database, account_id, taken)
    await numbers.create(database, other.id, replace(taken, carrier="exotel"))
    asleep = await numbers.create(database, other.id, replace(taken, active=False))
    with pytest.raises(NumberTaken):
        await numbers.update(database, other.id, asleep.id, taken, expected_revision=1)


@pytest.mark.parametrize("e164", ["", "14155550199", "+0415", "+1 415", "+12345678901234567", "+1415\n"])
async def test_a_number_is_e164(database: Database, seeded: SeededAccount, e164: str) -> None:
    """Whatever else is refused, as a number and as a fallback."""
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
