"""What a lost process or answer leaves at the carrier is settled before a person is dialled again."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from db import call_leases, events, finalisation
from telephony.errors import CarrierError
from tests.dispatch.conftest import PERSON, DispatchEnvironment
from tests.dispatch.scripted_carrier import calls_one_at_a_time
from voicebot.dispatch.dispatcher import ASKING

Env = DispatchEnvironment


async def test_the_call_of_a_lost_process_is_hung_up_first(dispatch_environment: Env) -> None:
    """Its id is known, so it is ended at the carrier before the person is dialled again; if the carrier
    cannot be asked, the lead waits."""
    env = dispatch_environment
    calls_one_at_a_time(env.carrier)
    lead = await env.lead(await env.template(retry={"no_answer": 1000}))
    await env.step()
    [first] = env.carrier.live
    await env.loses_process()
    hang_up = env.carrier.hang_up

    async def fails(_: str) -> None:
        raise CarrierError("no answer", status=0, retryable=True, uncertain=True)

    cast(Any, env.carrier).hang_up = fails
    await env.finalise()
    assert ((await env.again(lead)).status, len(env.carrier.live)) == ("dialing", 1)
    cast(Any, env.carrier).hang_up = hang_up
    for _ in range(2):
        env.clock.advance(minutes=1)
        await env.step()
    assert len(env.carrier.dialled) == 2
    assert env.carrier.hung_up == [first]


async def test_an_attempt_without_a_process_is_ended_by_any_other_one(dispatch_environment: Env) -> None:
    """Within its lease of 20 s its channel is free again; the lead is dialled again after its pause."""
    env = dispatch_environment
    await env.database.execute("UPDATE numbers SET channels = 1")
    lead = await env.lead(await env.template(retry={"no_answer": 1000}))
    env.carrier.dies = True
    await env.step()
    [row] = await env.database.fetch("SELECT held_until, now() + $1::interval AS latest FROM calls", ASKING)
    assert row["held_until"] <= row["latest"]
    assert await finalisation.next_due(env.database, env.clock.now()) == row["held_until"]
    await env.database.execute("UPDATE calls SET held_until = now() - interval '1 ms'")
    await env.finalise()
    [call] = await env.calls_of(lead)
    assert (call.status, call.ended_by, call.end_reason) == ("ended", "system", call_leases.NEVER_CONNECTED)
    [told] = await events.of_call(env.database, env.account_id, call.id)
    assert (told.type, told.data) == (
        "call.ended",
        {"ended_by": "system", "reason": call_leases.NEVER_CONNECTED},
    )
    await env.finalise()
    env.clock.advance(seconds=1)
    await env.step()
    assert [each.status for each in await env.calls_of(lead)] == ["ended", "ringing"]


async def test_a_carrier_that_takes_too_long_is_asked_about_the_call(dispatch_environment: Env) -> None:
    """The attempt stays until it is known whether its call was placed; the call is found and hung up."""
    env = dispatch_environment
    lead = await env.lead(await env.template())
    env.carrier.loses_answers = True
    env.carrier.errors = [TimeoutError()]
    await env.step()
    [call] = await env.calls_of(lead)
    assert (call.status, call.carrier_call_id, len(env.carrier.live)) == ("ringing", None, 1)
    await env.loses_process()
    await env.finalise()
    assert env.carrier.live == {}


async def test_a_carrier_that_is_down_uses_up_no_attempt(dispatch_environment: Env) -> None:
    """What it answered with 5xx may have been placed; if it has no such call, the attempt does not count."""
    env = dispatch_environment
    lead = await env.lead(await env.template(max_attempts=1, rate_limit={"calls": 1, "per_ms": 3_600_000}))
    for _ in range(3):
        env.carrier.errors = [CarrierError("down", status=503, retryable=True, uncertain=True)]
        await env.step()
        await env.loses_process()
        await env.finalise()
        assert (await env.again(lead)).status == "dialing"  # the call may still appear
        env.clock.advance(minutes=1)
        await env.finalise()
        found = await env.again(lead)
        assert (found.status, found.attempts) == ("queued", 0)
        env.clock.advance(seconds=2)
    await env.step()
    assert len(env.carrier.live) == 1


@pytest.mark.parametrize("is_found", [True, False])
async def test_a_refused_account_uses_up_no_attempt(dispatch_environment: Env, is_found: bool) -> None:
    """Leads wait until people have mended it, and are not dialled beside a call that cannot be looked for."""
    env = dispatch_environment
    lead = await env.lead(await env.template(max_attempts=1))
    refused = CarrierError("Authenticate", status=401, account_refused=True)
    env.carrier.errors = [refused]
    if is_found:
        env.carrier.errors, env.carrier.loses_answers = [TimeoutError()], True
    await env.step()
    if is_found:
        find_calls = env.carrier.find_calls

        async def refuses(**_: Any) -> list[str]:
            raise refused

        cast(Any, env.carrier).find_calls = refuses
        await env.loses_process()
        await env.finalise()
        assert ((await env.again(lead)).status, len(env.carrier.live)) == ("dialing", 1)
        cast(Any, env.carrier).find_calls = find_calls
        env.clock.advance(minutes=2)
        await env.finalise()
        assert env.carrier.live == {}
    else:
        await env.finalise()
        env.clock.advance(seconds=2)
        await env.step()
        assert len(env.carrier.live) == 1
        assert (await env.again(lead)).attempts == 1


async def test_a_call_that_cannot_be_hung_up_is_waited_for(dispatch_environment: Env) -> None:
    """Not every carrier hangs up a call that rings: the person is dialled again when it is over."""
    env = dispatch_environment
    calls_one_at_a_time(env.carrier)
    lead = await env.lead(await env.template(retry={"no_answer": 1000}))

    async def cannot(_: str) -> None:
        await asyncio.sleep(0)

    cast(Any, env.carrier).hang_up = cannot
    env.carrier.dies = True
    await env.step()
    await env.loses_process()
    for _ in range(3):
        await env.step()
        env.clock.advance(minutes=1)
    assert ((await env.again(lead)).status, len(env.carrier.dialled)) == ("dialing", 1)
    env.carrier.live.clear()
    for _ in range(2):
        await env.step()
        env.clock.advance(minutes=1)
    assert len(env.carrier.dialled) == 2


async def test_a_lost_call_that_is_over_counts(dispatch_environment: Env) -> None:
    """Its person's telephone has rung: it is an attempt, and the pause is that of a call nobody answered."""
    env = dispatch_environment
    lead = await env.lead(await env.template(retry={"no_answer": 3_600_000}))
    env.carrier.dies = True
    await env.step()
    env.carrier.live.clear()
    await env.loses_process()
    await env.finalise()
    found = await env.again(lead)
    assert (found.status, found.attempts) == ("queued", 1)
    assert found.next_attempt_at == env.clock.now() + timedelta(hours=1)


async def test_a_lost_call_is_found_by_a_carrier_whose_clock_is_slow(dispatch_environment: Env) -> None:
    """It is looked for from a minute before the attempt."""
    env = dispatch_environment
    lead = await env.lead(await env.template())
    env.carrier.dies = True
    await env.step()
    await env.loses_process()
    asked: list[datetime] = []
    find_calls = env.carrier.find_calls

    async def remembers(*, since: datetime, **numbers: str) -> Any:
        asked.append(since)
        return await find_calls(since=since, **numbers)

    cast(Any, env.carrier).find_calls = remembers
    await env.finalise()
    [call] = await env.calls_of(lead)
    assert asked == [call.started_at - timedelta(minutes=1)]


async def test_the_search_for_a_lost_call_spares_other_calls(dispatch_environment: Env) -> None:
    """A live call of another lead to the same person, between the same numbers, is not hung up."""
    env = dispatch_environment
    template_id = await env.template(retry={"no_answer": 3_600_000})
    await env.lead(template_id, priority=1)
    env.carrier.dies = True
    await env.step()
    # A person has one call at a time: the other call is one that the account did not know to be theirs.
    move = "UPDATE calls SET to_number = $2 WHERE to_number = $1"
    await env.database.execute(move, PERSON, "+14155550111")
    talking = await env.lead(template_id)
    await env.step()
    await env.database.execute(move, "+14155550111", PERSON)
    [call] = await env.calls_of(talking)
    await env.database.execute(
        "UPDATE calls SET held_until = now() - interval '1 second' WHERE id <> $1", call.id
    )
    await call_leases.end_expired(env.database, limit=9)
    await env.finalise()
    assert list(env.carrier.live) == [call.carrier_call_id]
