import asyncio
from dataclasses import replace

import pytest

from db import inbound, leads, numbers, templates
from db.errors import NoOrchestrator, UnknownNumber
from db.numbers import NumberDraft
from db.pool import Database
from tests.db.seed import CALLER, NOON, SeededAccount, draft, webhook


async def test_a_webhook_makes_a_ringing_call_and_its_lead(database: Database, seeded: SeededAccount) -> None:
    """Number, account, orchestrator and its revision are found; the lead is with the orchestrator."""
    began = await inbound.begin(database, webhook(seeded.number.e164, "CA1"))

    call = began.call
    assert began.created
    assert (call.account_id, call.number_id, call.status) == (seeded.id, seeded.number.id, "ringing")
    assert call.initial_template_id == call.template_id == seeded.front.id
    assert call.revisions == {str(seeded.front.id): 1}
    assert (call.from_number, call.to_number, call.started_at) == (CALLER, seeded.number.e164, NOON)
    lead = await leads.get(database, seeded.id, call.lead_id)
    assert (lead.direction, lead.phone, lead.status, lead.call_ids) == ("inbound", CALLER, "new", [call.id])
    assert lead.initial_template_id == lead.template_id == seeded.front.id


async def test_the_same_webhook_again_is_the_same_call(database: Database, seeded: SeededAccount) -> None:
    """A repetition finds the call, even when the number has been deleted meanwhile."""
    first = await inbound.begin(database, webhook(seeded.number.e164, "CA1"))
    await numbers.update(
        database,
        seeded.id,
        seeded.number.id,
        NumberDraft(e164=seeded.number.e164, carrier="twilio", active=False),
        expected_revision=1,
    )

    again = await inbound.begin(database, webhook(seeded.number.e164, "CA1"))

    assert not again.created
    assert again.call == first.call


async def test_the_same_webhook_at_once_on_two_replicas_is_one_call(
    database: Database, dsn: str, seeded: SeededAccount
) -> None:
    """Of many webhooks for one call, racing through two pools, one makes the call and its lead."""
    replica = await Database.connect(dsn)
    for n in range(20):
        dialled = webhook(seeded.number.e164, f"CA-race-{n}")
        began = await asyncio.gather(*(inbound.begin(db, dialled) for db in (database, replica) * 6))

        assert [one.created for one in began].count(True) == 1
        assert len({one.call.id for one in began}) == 1
    await replica.close()

    page = await leads.list_leads(database, seeded.id, leads.LeadFilter(), limit=200)
    assert len(page.items) == 20 + 1


async def test_an_unknown_number_is_named(database: Database, seeded: SeededAccount) -> None:
    """A number that does not exist, an inactive one, and one of another carrier are all unknown."""
    await numbers.create(
        database, seeded.id, NumberDraft(e164="+14155550199", carrier="twilio", active=False)
    )

    for dialled in (
        webhook("+14155550198", "CA1"),
        webhook("+14155550199", "CA2"),
        replace(webhook(seeded.number.e164, "CA3"), carrier="exotel"),
    ):
        with pytest.raises(UnknownNumber):
            await inbound.begin(database, dialled)


async def test_a_number_without_an_active_orchestrator_says_where_to_go(
    database: Database, seeded: SeededAccount
) -> None:
    """The error carries the number's fallback; an agent on the number answers by a decision only."""
    number = await numbers.create(
        database,
        seeded.id,
        NumberDraft(e164="+14155550199", carrier="twilio", fallback_number="+14155550000"),
    )
    await templates.create(database, seeded.id, draft("agent", number_id=number.id))
    await templates.create(
        database, seeded.id, draft("asleep", kind="orchestrator", status="draft", number_id=number.id)
    )

    with pytest.raises(NoOrchestrator) as caught:
        await inbound.begin(database, webhook(number.e164, "CA1"))

    assert (caught.value.number_id, caught.value.fallback_number) == (number.id, "+14155550000")


@pytest.mark.parametrize("caller", ["anonymous", None, "client:alice", "+1-415", ""])
async def test_a_caller_without_a_number_is_answered_too(
    database: Database, seeded: SeededAccount, caller: str | None
) -> None:
    """A caller number that is not E.164 is stored unchanged on the call, and the lead has no phone."""
    began = await inbound.begin(database, webhook(seeded.number.e164, "CA1", from_number=caller))

    assert began.call.from_number == caller
    assert (await leads.get(database, seeded.id, began.call.lead_id)).phone is None
