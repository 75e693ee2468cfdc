"""What one process learns from a carrier counts for all processes that dial with its credentials."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from db.provider_health import ProviderHealth
from telephony.errors import CarrierError
from tests.dispatch.conftest import CREDENTIALS, DispatchEnvironment, make_dispatcher
from voicebot.dispatch.breaker import FAILURES, FIRST_PAUSE, TEST, Breakers, after_refusal, is_open
from voicebot.dispatch.due_work import CHECK_AGAIN_S

Env = DispatchEnvironment
DOWN = CarrierError("down", status=503, retryable=True)
NOW = datetime(2026, 11, 29, tzinfo=UTC)


async def many_leads(env: Env, count: int = 20) -> None:
    """Leads of a number with a channel for each."""
    await env.database.execute("UPDATE numbers SET channels = 100")
    template_id = await env.template()
    for index in range(count):
        await env.lead(template_id, f"+141555502{index:02}")


async def opens(env: Env) -> None:
    """One process learns that the carrier is down."""
    env.carrier.errors = [DOWN] * FAILURES
    await many_leads(env, FAILURES)
    await env.step()
    assert env.carrier.errors == []


async def test_a_pause_that_one_process_is_asked_for_is_kept_by_all(dispatch_environment: Env) -> None:
    """The other process claims nothing meanwhile, and wakes when the pause is over."""
    env, other = dispatch_environment, dispatch_environment.other()
    await env.lead(await env.template())
    env.carrier.errors = [CarrierError("slow down", status=429, retryable=True, retry_after_s=20)]
    await env.step()
    waiting = await env.lead(await env.template(), "+14155550198")
    for seconds in (0, 19):
        env.clock.advance(seconds=seconds)
        assert await env.step(other) == pytest.approx(20 - seconds)
        found = await env.again(waiting)
        assert (found.status, found.next_attempt_at) == ("queued", waiting.next_attempt_at)
    assert len(env.carrier.dialled) == 1
    env.clock.advance(seconds=1)
    await env.step(other)
    assert len(env.carrier.dialled) == 3


async def test_all_processes_make_one_test_attempt(dispatch_environment: Env) -> None:
    """After failures in a row nobody dials; then one attempt tests the carrier, and its success opens it."""
    env = dispatch_environment
    await opens(env)
    processes = [env.dispatcher, env.other(), env.other()]
    for process in processes:
        await env.step(process)
    assert len(env.carrier.dialled) == FAILURES
    env.clock.advance(seconds=FIRST_PAUSE.total_seconds())
    began = []

    async def meanwhile(_: Any) -> None:
        began.append(len(env.carrier.dialled))
        for process in processes[1:]:
            await process.run_once()
            assert await process.run_once() <= CHECK_AGAIN_S

    env.carrier.on_dial = meanwhile
    await env.step(processes[0])
    for process in processes[1:]:
        await process.finish(30)
    assert began == [FAILURES + 1]
    env.carrier.on_dial = None
    env.clock.advance(seconds=1)
    await env.step(processes[1])
    assert len(env.carrier.dialled) == 2 * FAILURES


async def test_failures_in_a_row_are_counted_over_all_processes(dispatch_environment: Env) -> None:
    """A success of any process that knows of them ends the row."""
    env = dispatch_environment
    await env.database.execute("UPDATE numbers SET channels = 1")
    breakers = [Breakers(env.database, env.clock, CREDENTIALS) for _ in range(2)]
    for number in range(FAILURES - 1):
        await breakers[number % 2].refused("twilio", DOWN)
    await breakers[0].refresh()
    await breakers[0].worked("twilio")
    await breakers[1].refused("twilio", DOWN)
    assert not breakers[1].open()
    for number in range(FAILURES - 1):
        await breakers[number % 2].refused("twilio", DOWN)
    for each in breakers:
        await each.refresh()
        assert each.open() == ["twilio"]


async def test_other_credentials_are_not_affected(dispatch_environment: Env) -> None:
    """A process with new credentials dials while those of the old ones are refused."""
    env = dispatch_environment
    await opens(env)
    renewed = Breakers(env.database, env.clock, {"twilio": "TWILIO_AUTH_TOKEN:new"})
    await env.lead(await env.template(), "+14155550198")
    await env.step(env.other())
    assert len(env.carrier.dialled) == FAILURES
    await env.step(make_dispatcher(env.database, env.clock, env.carrier, renewed))
    assert len(env.carrier.dialled) == FAILURES + 1


async def test_while_nothing_is_wrong_nothing_is_stored(dispatch_environment: Env) -> None:
    """Calls that the carrier takes, and refuses for the person's number, write no row."""
    env = dispatch_environment
    await many_leads(env, 3)
    env.carrier.errors = [CarrierError("no such number", status=400)]
    await env.step()
    assert len(env.carrier.dialled) == 3
    assert await env.database.fetch("SELECT FROM provider_health") == []


async def test_a_test_attempt_that_dies_does_not_hold_others_for_ever(dispatch_environment: Env) -> None:
    """After a minute the next one may be made, by any process."""
    env = dispatch_environment
    await opens(env)
    env.clock.advance(seconds=FIRST_PAUSE.total_seconds())
    dead, other = (Breakers(env.database, env.clock, CREDENTIALS) for _ in range(2))
    await dead.refresh()
    assert await dead.admits("twilio")
    assert not await dead.admits("twilio")
    await other.refresh()
    assert not await other.admits("twilio")
    env.clock.advance(seconds=TEST.total_seconds())
    assert await other.admits("twilio")
    await other.unused("twilio")
    await dead.refresh()
    assert await dead.admits("twilio")


def test_a_pause_that_a_carrier_asks_for_ends() -> None:
    """However long it is, the carrier is asked again after an hour."""
    asked = CarrierError("later", status=429, retryable=True, retry_after_s=float("inf"))
    health = after_refusal(ProviderHealth(), NOW, asked)
    assert health is not None
    assert is_open(health, NOW + timedelta(seconds=3599))
    assert not is_open(health, NOW + timedelta(seconds=3600))
