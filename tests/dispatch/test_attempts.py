"""Attempts of several leads are begun by one statement, and each of them is decided by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from db import attempts, dispatch_records, lead_control
from db.attempts import AttemptLimits, Blocked
from db.calls import CallRecord
from db.dispatch import ClaimedLead
from db.leads import LeadRecord
from tests.dispatch.conftest import PERSON, DispatchEnvironment, make_environment

Env = DispatchEnvironment
HOUR = timedelta(hours=1)


def person(index: int) -> str:
    """The telephone number of a person."""
    return f"+14155550{index:03}"


async def claims(env: Env) -> list[ClaimedLead]:
    """All leads, claimed one after the other, so that several may be of one person."""
    found: list[ClaimedLead] = []
    while claimed := await env.dispatcher.claim(env.clock.now(), 100):
        found += claimed
    return found


async def begun(
    env: Env, claimed: Sequence[ClaimedLead], leads: Sequence[LeadRecord], calls: int | None = None
) -> list[CallRecord | Blocked]:
    """Begin the attempts of claimed leads, in the order of ``leads``; the result of each."""
    of = {claim.id: claim for claim in claimed}
    limits = AttemptLimits(now=env.clock.now(), calls=calls, period=HOUR, held_for=HOUR)
    found = await attempts.begin_attempts(env.database, [(of[lead.id], limits) for lead in leads])
    return list(found)


def obstacles(found: Sequence[CallRecord | Blocked]) -> list[str | None]:
    """Why each attempt was not begun; None: it was."""
    return [None if isinstance(each, CallRecord) else each.obstacle for each in found]


async def test_each_lead_of_a_statement_is_decided_by_itself(dispatch_environment: Env) -> None:
    """The first of a person's leads is dialled, and none that was stopped, that has no number or that reached
    its rate limit; the calls name their own lead, number and person."""
    env = dispatch_environment
    other = await make_environment(env.database, "+14155550101")
    other.clock.at = env.clock.at
    await env.database.execute("UPDATE numbers SET channels = 9")
    template_id, paused = await env.template(), await env.template()
    called = await env.lead(template_id, person(1))
    await env.step()
    await env.ends((await env.calls_of(called))[0], "hangup", answered=True)
    await env.finalise()
    leads = [
        await env.lead(template_id, person(1)),
        await env.lead(template_id, person(2)),
        await env.lead(template_id, person(2)),
        await env.lead(paused, person(3)),
        await env.lead(template_id, person(4)),
        await env.lead(template_id, person(5)),
        await other.lead(await other.template(), person(6)),
        await env.lead(template_id, person(7)),
    ]
    claimed = await claims(env)
    await lead_control.stop(env.database, env.account_id, paused, "pause")
    await dispatch_records.opt_out(env.database, env.account_id, person(4), "")
    await lead_control.cancel(env.database, env.account_id, leads[5].id, env.clock.now())
    await env.database.execute("UPDATE numbers SET active = false WHERE id = $1", other.number_id)
    found = await begun(env, claimed, leads, calls=1)
    assert obstacles(found) == [
        "rate_limit", None, "person_busy", "stopped", "stopped", "stopped", "no_number", None,
    ]  # fmt: skip
    assert isinstance(found[0], Blocked)
    assert found[0].until == env.clock.now() + HOUR
    made = [
        (call.lead_id, call.to_number, call.from_number) for call in found if isinstance(call, CallRecord)
    ]
    assert made == [(lead.id, lead.phone, "+14155550100") for lead in (leads[1], leads[7])]
    states = [(lead.status, lead.attempts) for lead in [await env.again(one) for one in leads[:5]]]
    assert states == [("queued", 0), ("dialing", 1), ("queued", 0), ("queued", 0), ("queued", 0)]


async def test_the_leads_of_a_statement_share_channels(dispatch_environment: Env) -> None:
    """Of five leads at once, as many are dialled as their number has channels that are not reserved."""
    env = dispatch_environment
    await env.database.execute("UPDATE numbers SET channels = 9")
    template_id = await env.template()
    leads = [await env.lead(template_id, person(index)) for index in range(5)]
    claimed = await claims(env)
    await env.database.execute("UPDATE numbers SET channels = 4, reserved_inbound = 1")
    assert obstacles(await begun(env, claimed, leads)) == [None, None, None, "no_channel", "no_channel"]
    assert obstacles(await begun(env, claimed, leads[3:])) == ["no_channel", "no_channel"]


async def test_statements_of_processes_do_not_exceed_a_limit_together(dispatch_environment: Env) -> None:
    """Ten processes begin attempts of the same persons at one number, in different orders: every person has
    one call, and the number as many as it has channels."""
    env = dispatch_environment
    await env.database.execute("UPDATE numbers SET channels = 100")
    template_id = await env.template()
    leads = [[await env.lead(template_id, person(index)) for index in range(4)] for _ in range(10)]
    claimed = await claims(env)
    await env.database.execute("UPDATE numbers SET channels = 3")
    found = await asyncio.gather(
        *(begun(env, claimed, each if index % 2 else each[::-1]) for index, each in enumerate(leads))
    )
    called = [call.to_number for each in found for call in each if isinstance(call, CallRecord)]
    assert len(called) == len(set(called)) == 3


async def test_a_lead_is_begun_by_its_claim_only(dispatch_environment: Env) -> None:
    """A claim that is over, and one that was used already, make no attempt."""
    env = dispatch_environment
    lead = await env.lead(await env.template(), PERSON)
    claimed = await claims(env)
    await env.database.execute("UPDATE leads SET claimed_by = gen_random_uuid()")
    assert obstacles(await begun(env, claimed, [lead])) == ["stopped"]
    await env.database.execute("UPDATE leads SET claimed_by = $1", claimed[0].claimed_by)
    assert obstacles(await begun(env, claimed, [lead])) == [None]
    assert obstacles(await begun(env, claimed, [lead])) == ["person_busy"]
    assert len(await env.calls_of(lead)) == 1
