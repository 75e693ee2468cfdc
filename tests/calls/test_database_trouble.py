"""A database that freezes or goes away while a call begins."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from starlette.websockets import WebSocket

from db.calls import CallRecord
from telephony.media import MediaStream
from tests.api.database_proxy import DatabaseProxy
from tests.calls.harness import WELCOME, CallHarness, hear, started
from voicebot.sandbox.caller import HangUp


@pytest.fixture
def proxy(shared_dsn: str) -> DatabaseProxy:
    """The server's way to the database."""
    return DatabaseProxy(shared_dsn)


@pytest.fixture
async def harness(proxy: DatabaseProxy, tmp_path: Path) -> AsyncIterator[CallHarness]:
    """Calls to a server whose database can be frozen."""
    async with proxy.running() as dsn, started(dsn, tmp_path) as it:
        yield it


@contextlib.contextmanager
def before_the_stream(harness: CallHarness, interfere: Callable[[], None]) -> Iterator[None]:
    """Interfere when a call was prepared and its media socket has sent `start`."""
    app_state = harness.server.app_state
    registry, carrier = app_state.call_registry, app_state.carriers["twilio"]
    prepare, accept = registry.prepare, carrier.accept_media
    prepared = asyncio.Event()

    async def prepare_and_say(call: CallRecord) -> None:
        await prepare(call)
        prepared.set()

    async def accept_late(websocket: WebSocket) -> MediaStream:
        media = await accept(websocket)
        await prepared.wait()
        interfere()
        return media

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "prepare", prepare_and_say)
        patch.setattr(carrier, "accept_media", accept_late)
        yield


@pytest.mark.parametrize("trouble", ["freeze", "cut"])
async def test_row_18_a_database_lost_before_the_stream_does_not_delay_the_first_word(
    harness: CallHarness, proxy: DatabaseProxy, trouble: str
) -> None:
    """The greeting is heard while the token waits for the database, which then gets the whole call."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    await harness.greetings_are_prepared(1)
    with before_the_stream(harness, getattr(proxy, trouble)):
        call, person = harness.dial(hear(), HangUp(), to=number)
        async with asyncio.timeout(60):
            await call.ended()
    proxy.restore()
    facts = await harness.facts(call, person)

    assert facts.words() == [WELCOME]
    assert facts.first_word_ms < 2000
    assert facts.record["resumes"] == 0


async def test_row_13_a_call_that_arrives_while_the_database_is_down_is_greeted_later(
    harness: CallHarness, proxy: DatabaseProxy
) -> None:
    """The caller hears it ring, and then the greeting: the carrier has asked again every second."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    await harness.greetings_are_prepared(1)
    proxy.cut()
    call, person = harness.dial(hear(), HangUp(), to=number)
    await asyncio.sleep(1.5)
    assert not call.answered.is_set()
    proxy.restore()
    async with asyncio.timeout(60):
        await call.ended()
    facts = await harness.facts(call, person)

    assert facts.words() == [WELCOME]
    assert facts.first_word_ms < 2000
