import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest

from db import inbound, leads
from db.errors import IdempotencyKeyReused, NotFound
from db.leads import LeadDraft, LeadFilter
from db.pool import Database
from tests.db.seed import SeededAccount, webhook


def outbound(seeded: SeededAccount) -> LeadDraft:
    return LeadDraft(
        direction="outbound",
        phone="+14155550177",
        number_id=seeded.number.id,
        template_id=seeded.front.id,
        payload={"invoice": 7, "due": [1, 2]},
        variables={},
    )


async def test_a_lead_comes_back_as_it_was_made(database: Database, seeded: SeededAccount) -> None:
    """A new lead is with the template it was made for and has neither calls nor routes."""
    lead = (await leads.create(database, seeded.id, outbound(seeded))).lead

    assert (lead.status, lead.payload, lead.call_ids, lead.routes) == (
        "queued",
        {"invoice": 7, "due": [1, 2]},
        [],
        (),
    )
    assert lead.initial_template_id == lead.template_id == seeded.front.id
    assert await leads.get(database, seeded.id, lead.id) == lead


async def test_one_idempotency_key_makes_one_lead(database: Database, seeded: SeededAccount) -> None:
    """The same request many times at once makes one lead, and every answer shows it."""
    results = await asyncio.gather(
        *(leads.create(database, seeded.id, outbound(seeded), idempotency_key="k") for _ in range(8))
    )

    assert [result.created for result in results].count(True) == 1
    assert len({result.lead.id for result in results}) == 1


async def test_a_key_is_not_good_for_another_request(database: Database, seeded: SeededAccount) -> None:
    """The key with another payload or phone is refused; without a key, equal requests make two leads."""
    first = await leads.create(database, seeded.id, outbound(seeded), idempotency_key="k")

    for other in (replace(outbound(seeded), payload={}), replace(outbound(seeded), phone=None)):
        with pytest.raises(IdempotencyKeyReused) as caught:
            await leads.create(database, seeded.id, other, idempotency_key="k")
        assert caught.value.existing_id == first.lead.id
    assert (await leads.create(database, seeded.id, outbound(seeded))).created
    assert (await leads.create(database, seeded.id, outbound(seeded))).created


async def test_what_a_lead_needs_is_named_when_it_is_missing(
    database: Database, seeded: SeededAccount
) -> None:
    """An unknown number and an unknown template raise different errors."""
    with pytest.raises(NotFound, match="number"):
        await leads.create(database, seeded.id, replace(outbound(seeded), number_id=uuid4()))
    with pytest.raises(NotFound, match="template"):
        await leads.create(database, seeded.id, replace(outbound(seeded), template_id=uuid4()))


async def test_variables_are_added_to(database: Database, seeded: SeededAccount) -> None:
    """Later values replace those of the same name and leave the others."""
    await leads.keep_variables(database, seeded.id, seeded.call.lead_id, {"name": "Ann", "age": 30})
    kept = await leads.keep_variables(database, seeded.id, seeded.call.lead_id, {"age": 31})

    assert kept == {"name": "Ann", "age": 31}
    assert (await leads.get(database, seeded.id, seeded.call.lead_id)).variables == kept


async def test_leads_are_listed_newest_first_and_narrowed(database: Database, seeded: SeededAccount) -> None:
    """Direction, phone, status, number and template narrow the list, which is paged."""
    made = (await leads.create(database, seeded.id, outbound(seeded))).lead
    withheld = (await inbound.begin(database, webhook(seeded.number.e164, "CA2", None))).call.lead_id

    async def listed(where: LeadFilter) -> list[object]:
        return [lead.id for lead in (await leads.list_leads(database, seeded.id, where, limit=10)).items]

    assert await listed(LeadFilter()) == [withheld, made.id, seeded.call.lead_id]
    assert await listed(LeadFilter(direction="outbound")) == [made.id]
    assert await listed(LeadFilter(phone="+14155550177", status="queued")) == [made.id]
    assert await listed(LeadFilter(number_id=seeded.number.id, template_id=seeded.billing.id)) == []
    first = await leads.list_leads(database, seeded.id, LeadFilter(), limit=2)
    rest = await leads.list_leads(database, seeded.id, LeadFilter(), limit=2, cursor=first.next_cursor)
    assert [lead.id for lead in rest.items] == [seeded.call.lead_id]
