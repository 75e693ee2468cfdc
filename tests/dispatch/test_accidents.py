"""Failures between the claim of a lead and the end of its call: none is dialled twice or lost."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import time, timedelta
from typing import cast

import pytest

from db import call_leases, dispatch_records, lead_control
from db.calls import CallRecord
from db.pool import Database
from tests.dispatch.conftest import ALWAYS, DispatchEnvironment, make_dispatcher
from tests.dispatch.dying_database import DyingDatabase
from tests.dispatch.scripted_carrier import calls_one_at_a_time
from tests.handoffs.fixtures import DatabaseWithInterruption
from voicebot.dispatch.dispatcher import CLAIM, Dispatcher

Env = DispatchEnvironment


async def runs_once(dispatcher: Dispatcher) -> None:
    """A process that may die looks for leads once."""
    with contextlib.suppress(asyncio.CancelledError):
        await dispatcher.run_once()
    await dispatcher.finish(30)


@pytest.mark.parametrize("at_once", [1, 3])
async def test_a_dispatcher_that_dies_at_any_statement_dials_once(
    dispatch_environment: Env, at_once: int
) -> None:
    """Another process takes the leads over; a person never has two calls at once."""
    env = dispatch_environment
    calls_one_at_a_time(env.carrier)
    await env.database.execute("UPDATE numbers SET channels = 3")
    template_id = await env.template(retry={"no_answer": 1000}, rate_limit={"calls": 5, "per_ms": 60_000})
    died_at = 0
    while True:
        died_at += 1
        leads = [await env.lead(template_id, f"+14155503{died_at:02}{place}") for place in range(at_once)]
        dying = DyingDatabase(env.database, died_at)
        await runs_once(make_dispatcher(dying.as_database(), env.clock, env.carrier))
        if dying.has_died:
            await env.loses_process()
        for _ in range(4):
            env.clock.advance(seconds=CLAIM.total_seconds() + 1)
            await env.step()
        live = sorted(request.to for request in env.carrier.live.values())
        assert live == [lead.phone for lead in leads], died_at
        env.carrier.live.clear()
        for lead in leads:
            attempts = await env.calls_of(lead)
            assert [call.status for call in attempts[:-1]] == ["ended"] * (len(attempts) - 1), died_at
            await env.ends(attempts[-1], "hangup", answered=True)
        await env.finalise()
        if not dying.has_died:
            break
    assert died_at > 7


async def test_a_person_is_not_dialled_after_every_restart(dispatch_environment: Env) -> None:
    """Ten restarts in the middle of a dial make as many calls as there are attempts, one after the other."""
    env = dispatch_environment
    calls_one_at_a_time(env.carrier)
    lead = await env.lead(await env.template(max_attempts=3, retry={"no_answer": 1000}))
    for _ in range(10):
        env.carrier.dies = True
        await runs_once(env.other())
        await env.loses_process()
        await env.finalise()
        env.clock.advance(minutes=1)
    assert len(env.carrier.dialled) == 3
    assert env.carrier.live == {}
    assert ((found := await env.again(lead)).status, found.attempts) == ("finished", 3)


@pytest.mark.parametrize("during", ["greeting", "dial"])
@pytest.mark.parametrize("stop", ["kill_switch", "cancel"])
async def test_what_is_stopped_while_it_is_dialled_does_not_ring(
    dispatch_environment: Env, during: str, stop: str
) -> None:
    """Before the carrier was asked, no call is placed; afterwards it is hung up at once."""
    env = dispatch_environment
    lead = await env.lead(await env.template())

    async def stops(_: object) -> None:
        if stop == "cancel":
            await lead_control.cancel(env.database, env.account_id, lead.id, env.clock.now())
        else:
            await lead_control.stop(env.database, env.account_id, None, "kill_switch")

    if during == "dial":
        env.carrier.on_dial = stops
        await env.step()
        assert len(env.carrier.hung_up) == 1
    else:
        await env.step(make_dispatcher(env.database, env.clock, env.carrier, prepare=stops))
        assert env.carrier.dialled == []
        await env.finalise()
        found = await env.again(lead)
        assert (found.status, found.attempts) == (
            ("cancelled", 1) if stop == "cancel" else ("queued", 0)
        )  # fmt: skip
    assert env.carrier.live == {}


@pytest.mark.parametrize(
    ("change", "status", "outcome"),
    [
        ("UPDATE templates SET status = 'draft'", "finished", "template_unavailable"),
        ("UPDATE numbers SET active = false", "finished", "number_unavailable"),
        ("UPDATE numbers SET reserved_inbound = 2", "finished", "number_unavailable"),
        ("opted out", "finished", "opted_out"),
        ("paused", "queued", None),
        ("cancelled", "cancelled", None),
    ],
)
async def test_what_changes_while_a_lead_is_claimed_counts(
    dispatch_environment: Env, change: str, status: str, outcome: str | None
) -> None:
    """It is looked at again where the attempt is made: nothing is dialled, no channel and no attempt used."""
    env = dispatch_environment
    lead = await env.lead(await env.template())

    async def changes() -> None:
        if change == "opted out":
            await dispatch_records.opt_out(env.database, env.account_id, str(lead.phone), "")
        elif change == "paused":
            await lead_control.stop(env.database, env.account_id, lead.template_id, "pause")
        elif change == "cancelled":
            await lead_control.cancel(env.database, env.account_id, lead.id, env.clock.now())
        else:
            await env.database.execute(change)

    interrupted = cast(Database, DatabaseWithInterruption(env.database, changes))
    await env.step(make_dispatcher(interrupted, env.clock, env.carrier))
    await env.step()
    found = await env.again(lead)
    assert (found.status, found.outcome, found.attempts, found.call_ids) == (status, outcome, 0, [])
    assert env.carrier.dialled == []


@pytest.mark.parametrize(
    ("change", "status", "outcome", "waits_for"),
    [
        ("UPDATE templates SET status = 'draft'", "finished", "template_unavailable", None),
        ("UPDATE numbers SET active = false", "finished", "number_unavailable", None),
        ("UPDATE numbers SET reserved_inbound = 2", "finished", "number_unavailable", None),
        ("opted out", "finished", "opted_out", None),
        ("paused", "queued", None, "retry"),
        ("late", "finished", "expired", None),
        ("closed", "queued", None, "window"),
    ],
)
async def test_what_changes_while_the_greeting_is_made_counts(
    dispatch_environment: Env, change: str, status: str, outcome: str | None, waits_for: str | None
) -> None:
    """Whatever keeps a person from being called counts until the carrier is asked, the time of day too."""
    env = dispatch_environment
    closes = env.clock.now().replace(second=0, microsecond=0) + timedelta(minutes=1)
    window = {"from": "00:00", "to": closes.strftime("%H:%M")} if closes.time() > time() else ALWAYS["window"]
    template_id = await env.template(**({"window": window} if change == "closed" else {}))
    late = env.clock.now() + timedelta(seconds=1)
    lead = await env.lead(template_id, latest_at=late if change == "late" else None)

    async def changes(call: CallRecord) -> None:
        if change == "opted out":
            await dispatch_records.opt_out(env.database, env.account_id, call.to_number, "")
        elif change == "paused":
            await lead_control.stop(env.database, env.account_id, lead.template_id, "pause")
        elif change in ("late", "closed"):
            env.clock.advance(minutes=1)
        else:
            await env.database.execute(change)

    await env.step(make_dispatcher(env.database, env.clock, env.carrier, prepare=changes))
    await env.finalise()
    env.clock.advance(seconds=2)
    await env.step()
    found = await env.again(lead)
    assert (found.status, found.outcome if status == "finished" else None) == (status, outcome)
    assert (found.waits_for, found.attempts, env.carrier.dialled) == (waits_for, 0, [])


@pytest.mark.parametrize("hours", [-1, 1])
async def test_clocks_of_processes_need_not_agree(dispatch_environment: Env, hours: int) -> None:
    """With clocks an hour apart a lead is dialled once, and its lease is that of the database's clock."""
    env = dispatch_environment
    lead = await env.lead(await env.template(), earliest_at=env.clock.now() - timedelta(hours=2))
    env.clock.advance(hours=hours)
    await env.step(env.other())
    env.clock.advance(hours=-hours)
    assert await call_leases.end_expired(env.database, limit=9) == []
    await env.step()
    assert len(env.carrier.dialled) == 1
    assert len(await env.calls_of(lead)) == 1


async def test_a_lead_without_a_channel_raises_no_alert(dispatch_environment: Env) -> None:
    """Sixteen seconds without a channel: no alert, no attempt, and it does not count against the person."""
    env = dispatch_environment
    await env.database.execute("UPDATE numbers SET channels = 1")
    template_id = await env.template(rate_limit={"calls": 1, "per_ms": 3_600_000})
    talking, waiting = await env.lead(template_id, priority=1), await env.lead(template_id, "+14155550198")
    for _ in range(16):
        await env.step()
        env.clock.advance(seconds=1)
    assert await env.database.fetch("SELECT FROM alerts") == []
    assert (await env.again(waiting)).attempts == 0
    calls: list[CallRecord] = await env.calls_of(talking)
    await env.ends(calls[0], "hangup", answered=True)
    await env.step()
    assert (await env.again(waiting)).status == "dialing"
