"""A call whose media stream is lost continues on any replica, with its agent, node and variables."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.api.server_fixture import serving
from tests.calls.harness import OPEN, WELCOME, CallHarness, carrier_settings, hear, started
from tests.handlers.http_harness import ServerAnswer, running_server
from voicebot.sandbox.caller import HangUp, Say, WaitFor
from voicebot.sandbox.carrier import Carrier
from voicebot.sandbox.vendors.script import Answer, Body, newest, system_text

GREETED = "Hello Ada."
HOURS = "Acme is open from eight to five."
BEFORE = (hear(), Say(text=OPEN), hear())
AFTER = (Say(text=OPEN), hear(), HangUp())


def flow_that_finds(url: str) -> dict[str, Any]:
    """A flow whose first node looks the caller up and whose second one knows their name."""
    find = {
        "type": "http",
        "name": "find",
        "description": "Finds the caller.",
        "method": "GET",
        "url": f"{url}/callers/1",
        "keep": {"caller": "/name"},
    }
    nodes = {
        "look": {
            "role_message": "You are the finder.",
            "task_messages": [{"content": "Find the caller."}],
            "functions": [{"name": "find", "transition_to": "greet"}],
        },
        "greet": {"task_messages": [{"content": "Greet {{ caller }}."}]},
    }
    return {
        "prompt": None,
        "idle": {"after_ms": 60_000},
        "flow": {"initial_node": "look", "nodes": nodes},
        "variables": [{"name": "caller", "source": "call"}],
        "functions": [find],
    }


def finding(body: Body) -> Answer:
    """Route to billing, find the caller, and greet the person whom the instructions name."""
    if "You are the desk" in system_text(body):
        return Answer(calls=[("route_to_agent", {"agent": "billing", "reason": "asked"})])
    if "Greet" in system_text(body):
        return Answer(text=GREETED if "Greet Ada." in system_text(body) else "Hello nobody.")
    return Answer(text="Hm.") if newest(body)["role"] == "tool" else Answer(calls=[("find", {})])


class Balancer:
    """One address for several servers: new connections go to the one that is chosen."""

    def __init__(self, url: str) -> None:
        self.chosen = url
        self._pumps: set[asyncio.Task[None]] = set()

    def choose(self, url: str) -> None:
        """Send new connections to another server."""
        self.chosen = url

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Forward from a free port; yields the URL."""
        server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        server.close()
        for pump in self._pumps:
            pump.cancel()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = urlsplit(self.chosen)
        far_reader, far_writer = await asyncio.open_connection(there.hostname, there.port)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            pump = asyncio.create_task(_pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
async def office() -> AsyncIterator[str]:
    """URL of a server that finds callers."""
    async with running_server(ServerAnswer(body=b'{"name": "Ada"}')) as server:
        yield server.url


@pytest.fixture
async def harness(shared_dsn: str, tmp_path: Path, office: str) -> AsyncIterator[CallHarness]:
    """Calls whose HTTP functions may reach the office."""
    async with started(shared_dsn, tmp_path, VOICEBOT_HTTP_ALLOW=urlsplit(office).netloc) as it:
        it.sandbox.script.respond(finding)
        yield it


async def test_a_lost_stream_goes_on_in_the_node_it_was_in(harness: CallHarness, office: str) -> None:
    """After the stream was lost in the second node the model has that node's task, role and variables."""
    number = await harness.orchestrator(
        harness.route("billing", await harness.agent()), **flow_that_finds(office)
    )
    call = await harness.place_with_lost_stream(BEFORE, AFTER, to=number)

    assert call.record["resumes"] == 1
    assert set(call.words()) == {WELCOME, GREETED}
    assert call.record["node"] == "greet"
    resumed = next(index for index, event in enumerate(call.all_events) if event["type"] == "call.resumed")
    assert [e["node"] for e in call.all_events[resumed:] if e["type"] == "node.entered"] == ["greet"]
    assert len(call.events("function.called")) == 1
    assert "You are the finder." in system_text(harness.asked()[-1])
    assert "Greet Ada." in system_text(harness.asked()[-1])


@pytest.mark.long
async def test_another_replica_goes_on_with_it(harness: CallHarness, office: str) -> None:
    """The next stream may come to a process that has never seen the call, while a target had it."""
    finder = await harness.agent(**flow_that_finds(office))
    number = await harness.orchestrator(harness.route("billing", finder))
    balancer = Balancer(harness.server.url)
    settings = harness.server.app_state.settings
    async with (
        serving(settings) as second,
        balancer.running() as address,
        Carrier(carrier_settings(address)) as carrier,
    ):
        facts = await harness.place_with_lost_stream(
            BEFORE, AFTER, to=number, carrier=carrier, before_drop=lambda: balancer.choose(second.url)
        )

    assert facts.outcome.ok, facts.outcome.failure
    assert facts.record["resumes"] == 1
    assert set(facts.words()) == {WELCOME, GREETED}
    assert len(facts.routes) == len(facts.events("function.called")) == 1
    assert facts.transcript[-1]["template_id"] == finder["id"]
    assert "Greet Ada." in system_text(harness.asked()[-1])


@pytest.mark.long
async def test_row_15_a_call_rescued_from_a_drain_before_its_greeting_is_greeted(
    harness: CallHarness,
) -> None:
    """A new call whose stream a stopping server refused gets its greeting from the other server."""
    harness.sandbox.script.clear()
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    balancer = Balancer(harness.server.url)
    settings = harness.server.app_state.settings
    async with (
        serving(settings) as second,
        balancer.running() as address,
        Carrier(carrier_settings(address)) as carrier,
    ):
        harness.server.app_state.draining = True
        person = harness.person(hear(), Say(text=OPEN), hear(), HangUp())
        call = carrier.call(from_="+14155550142", to=number, person=person)
        async with asyncio.timeout(30):
            while (record := await harness.record(call.sid)) is None or not record["resumes"]:
                await asyncio.sleep(0.01)
        balancer.choose(second.url)
        await call.ended()
        harness.server.app_state.draining = False
        facts = await harness.facts(call, person)

    assert facts.outcome.ok, facts.outcome.failure
    assert facts.words() == [WELCOME, HOURS]
    assert [event["type"] for event in facts.events("call.started", "call.resumed")] == ["call.started"]
    assert WELCOME in str(harness.asked(containing=OPEN)[-1]["messages"])


@pytest.mark.long
async def test_row_14_a_call_at_the_drain_limit_goes_on_at_another_server(harness: CallHarness) -> None:
    """After the limit the stopping server closes the stream at a pause, and the other one has the call."""
    harness.sandbox.script.clear()
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    settings = harness.server.app_state.settings
    async with serving(settings) as second:
        balancer = Balancer(second.url)
        async with balancer.running() as address, Carrier(carrier_settings(address)) as carrier:
            answered, stopped = asyncio.Event(), asyncio.Event()
            pause = WaitFor(event=stopped, timeout_ms=30_000)
            script = (hear(), Say(text=OPEN), hear(), pause, hear(), Say(text=OPEN), hear(), HangUp())
            person = harness.person(*script, on_step=lambda step: answered.set() if step is pause else None)
            call = carrier.call(from_="+14155550143", to=number, person=person)
            async with asyncio.timeout(60):
                await answered.wait()
                balancer.choose(harness.server.url)
                second.call_server.handle_exit(signal.SIGTERM, None)
                while len(call.streams) < 2:
                    await asyncio.sleep(0.01)
            stopped.set()
            await call.ended()
            facts = await harness.facts(call, person)

    assert facts.outcome.ok, facts.outcome.failure
    assert (facts.record["resumes"], facts.record["end_reason"]) == (1, "hangup")
    assert facts.words()[:2] == [WELCOME, HOURS]
    assert facts.words()[-1] == HOURS
    assert len(facts.events("call.started")) == 1
    assert [row["heard_text"] for row in facts.transcript] == [row["text"] for row in facts.transcript]
