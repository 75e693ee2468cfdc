"""A server that stops while no other one can take its calls."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from db import carrier_calls, utterances
from db.pool import Database
from tests.api.server_fixture import new_e164
from tests.calls.dialling import dialled
from tests.calls.harness import OPEN, WELCOME, CallHarness, hear, started
from voicebot.sandbox.caller import HangUp, Say, WaitFor, WaitForHangUp
from voicebot.sandbox.carrier import Phone

DRAIN_S = 0.2


@pytest.fixture
async def harness(dsn: str, tmp_path: Path) -> AsyncIterator[CallHarness]:
    """Calls to a server with a database of its own."""
    async with started(dsn, tmp_path, VOICEBOT_DRAIN_TIMEOUT_MS=round(DRAIN_S * 1000)) as it:
        yield it


async def is_live(harness: CallHarness) -> None:
    """Wait until the server has the call."""
    async with asyncio.timeout(60):
        while not harness.server.app_state.call_registry.live:
            await asyncio.sleep(0.01)


async def test_a_call_at_the_drain_limit_goes_on_until_it_ends(
    harness: CallHarness, database: Database
) -> None:
    """Without another server the call continues here; the server stops when the caller has hung up."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    limit_reached = asyncio.Event()
    pause = WaitFor(event=limit_reached, timeout_ms=30_000)
    call, person = harness.dial(hear(), pause, Say(text=OPEN), hear(), HangUp(), to=number)
    await is_live(harness)
    harness.server.call_server.handle_exit(signal.SIGTERM, None)
    await asyncio.sleep(5 * DRAIN_S)
    limit_reached.set()
    await call.ended()
    async with asyncio.timeout(60):
        while (record := await carrier_calls.by_carrier_id(database, "twilio", call.sid)).status != "ended":
            await asyncio.sleep(0.05)
    said = await utterances.of_call(database, record.account_id, record.id)

    assert person.outcome.ok, person.outcome.failure
    assert (record.resumes, record.end_reason) == (0, "hangup")
    words = [row.heard_text for row in said if row.speaker == "agent"]
    assert words == [WELCOME, "Acme is open from eight to five."]


async def test_people_who_are_being_called_may_still_answer(
    dsn: str, tmp_path: Path, database: Database
) -> None:
    """Nobody else would take their call: the server stops when they have answered and hung up."""
    phone = new_e164()
    async with started(dsn, tmp_path, VOICEBOT_DISPATCH="on", VOICEBOT_DRAIN_TIMEOUT_MS=60_000) as line:
        person = line.person(hear(), HangUp())
        line.carrier.phones[phone] = Phone(after_ms=1500, person=person)
        call, _ = await dialled(line, phone, greeting={"text": "Hello, this is Acme."})
        line.server.call_server.handle_exit(signal.SIGTERM, None)
        async with asyncio.timeout(60):
            await call.ended()
    record = await carrier_calls.by_carrier_id(database, "twilio", call.sid)
    assert person.outcome.ok, person.outcome.failure
    assert record.answered_at is not None
    assert (record.status, record.resumes, record.end_reason) == ("ended", 0, "hangup")


async def test_a_second_signal_ends_the_calls(harness: CallHarness) -> None:
    """The operator's second signal ends the remaining calls, and the record says why."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    call, person = harness.dial(WaitForHangUp(timeout_ms=30_000), to=number)
    await is_live(harness)
    for _ in range(2):
        harness.server.call_server.handle_exit(signal.SIGTERM, None)
        await asyncio.sleep(2 * DRAIN_S)
    async with asyncio.timeout(60):
        await call.ended()

    assert call.ended_by == "rest"
    assert person.outcome.ok, person.outcome.failure
