"""Leads that are cancelled: `lead.finished` reports each of them once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from db import calls, lead_control, leads, notices
from db.lead_control import CancelledLead
from db.leads import LeadDraft
from tests.dispatch.conftest import DispatchEnvironment
from tests.dispatch.test_finalisation import HOOK, ScriptedModel, answered, finalised, finaliser, told
from voicebot.dispatch import cancellation

Env = DispatchEnvironment


async def cancelled(env: Env, lead_id: Any) -> CancelledLead | None:
    """Cancel a lead as the API does."""
    async with env.database.transaction() as transaction:
        return await cancellation.cancel(transaction, env.account_id, lead_id, env.clock.now())


async def finished(env: Env) -> list[dict[str, Any]]:
    """The data of each `lead.finished`."""
    return [data for type_, data in await told(env) if type_ == "lead.finished"]


@pytest.mark.parametrize("status", ["queued", "held", "retry"])
async def test_a_lead_that_waits_is_reported_at_once(dispatch_environment: Env, status: str) -> None:
    """The outcome is `cancelled`; it is cancelled and reported once."""
    env = dispatch_environment
    lead = await env.lead(await env.template(webhook_url=HOOK))
    if status == "held":
        await lead_control.hold(env.database, env.account_id, lead.id, env.clock.now())
    if status == "retry":
        await env.step()
        await env.ends((await env.calls_of(lead))[0], "busy")
        await env.finalise()
    both = await asyncio.gather(cancelled(env, lead.id), cancelled(env, lead.id))
    assert both.count(None) == 1
    await env.step()
    assert await finished(env) == [
        {
            "lead_id": str(lead.id), "phone": lead.phone, "number_id": str(lead.number_id),
            "template_id": str(lead.template_id), "outcome": "cancelled", "attempts": int(status == "retry"),
            "call_id": None, "output": None,
        }
    ]  # fmt: skip
    assert (await env.again(lead)).status == "cancelled"


async def test_a_lead_that_rings_is_reported_when_its_call_is_over(dispatch_environment: Env) -> None:
    """The call that is hung up comes first."""
    env = dispatch_environment
    lead = await env.lead(await env.template(webhook_url=HOOK))
    await env.step()
    assert await cancelled(env, lead.id) is not None
    assert await told(env) == []
    [call] = await env.calls_of(lead)
    await env.ends(call, "canceled")
    for _ in range(2):
        await env.finalise()
    [(first, _), (second, data)] = await told(env)
    assert (first, second) == ("call.ended", "lead.finished")
    facts = ("outcome", "attempts", "call_id")
    assert [data[name] for name in facts] == ["cancelled", 1, str(call.id)]


async def test_a_lead_that_talks_is_reported_with_the_output(dispatch_environment: Env) -> None:
    """The conversation goes on, and what it brought is in the report."""
    env = dispatch_environment
    lead = await env.lead(await env.template(webhook_url=HOOK, output={"visit": {"type": "boolean"}}))
    call = await answered(env, lead)
    assert (await cancelled(env, lead.id)) is not None
    await finalised(finaliser(env, ScriptedModel({"visit": True})))
    [data] = await finished(env)
    assert (data["outcome"], data["call_id"]) == ("cancelled", str(call.id))
    assert data["output"] == {"visit": True}
    assert (await calls.get(env.database, env.account_id, call.id)).outcome == "answered"


async def test_many_leads_are_cancelled_in_batches(dispatch_environment: Env) -> None:
    """All of a template, in whatever status and also one that is being changed, and none of another."""
    env = dispatch_environment
    template_id, other = await env.template(webhook_url=HOOK), await env.template(webhook_url=HOOK)
    drafts = [
        LeadDraft(
            direction="outbound", phone=f"+1415556{number:04}", number_id=env.number_id, payload={},
            template_id=template_id, variables={},
        )
        for number in range(2 * cancellation.BATCH + 100)
    ]  # fmt: skip
    made = await leads.create_all(env.database, env.account_id, [(draft, None) for draft in drafts])
    added = [each.lead.id for each in made]
    kept = await env.lead(other, "+14155570000")
    await env.step()
    await lead_control.hold(env.database, env.account_id, added[-1], env.clock.now())
    found, sizes = Counter[Any](), list[int]()

    async def cancel_all() -> None:
        async for batch in cancellation.cancel_all(
            env.database, env.account_id, template_id, env.clock.now()
        ):
            found.update(lead.id for lead in batch)
            sizes.append(len(batch))

    async with env.database.transaction() as changing:
        await changing.execute("SELECT FROM leads WHERE id = $1 FOR UPDATE", added[5])
        task = asyncio.create_task(cancel_all())
        while sum(sizes) < len(added) - 1:
            await asyncio.sleep(0.01)
        assert not task.done()
    await task
    assert found == Counter(added)
    assert max(sizes) == cancellation.BATCH
    assert (await env.again(kept)).status in ("queued", "dialing")
    ringing = [call for call in env.carrier.live.values() if call.to != kept.phone]
    row = await env.database.fetchrow(
        "SELECT count(*) AS n, count(DISTINCT message #>> '{data,lead_id}') AS leads FROM outbox"
    )
    assert row is not None
    assert (row["n"], row["leads"]) == (len(added) - len(ringing),) * 2


async def test_all_leads_of_an_account_are_cancelled(dispatch_environment: Env) -> None:
    """Those that are stored later are dialled."""
    env = dispatch_environment
    made = [await env.lead(await env.template(), f"+1415556000{n}") for n in range(3)]
    found = [
        lead.id
        async for batch in cancellation.cancel_all(env.database, env.account_id, None, env.clock.now())
        for lead in batch
    ]
    assert sorted(found) == sorted(lead.id for lead in made)
    assert (await notices.list_notices(env.database, env.account_id, limit=9)).items == []
    later = await env.lead(await env.template())
    await env.step()
    assert [request.to for request in env.carrier.dialled] == [later.phone]
