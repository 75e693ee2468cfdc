"""A call whose stream is lost goes on where it was: same agent, same node, same variables, on any replica."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.api.server_fixture import serving
from tests.calls.scripted import Body, ScriptedModel, ServerAnswer, last, system
from tests.calls.server import OPEN, PUBLIC_URL, WELCOME, World, hear, moved_in
from tests.handlers.http_harness import ServerAnswer as Served
from tests.handlers.http_harness import running_server
from voicebot.sandbox.caller import Caller, HangUp, Say, Wait
from voicebot.sandbox.carrier import Carrier, CarrierSettings, Misbehaviour
from voicebot.sandbox.environment import TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN

GREETED = "Hello Ada."


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
        "flow": {"initial_node": "look", "nodes": nodes},
        "variables": [{"name": "caller", "source": "call"}],
        "functions": [find],
    }


def finding(body: Body) -> ServerAnswer:
    """Routes to billing, looks the caller up, and greets whom the instructions name."""
    if "You are the desk" in system(body):
        return ServerAnswer(calls=[("route_to_agent", {"agent": "billing", "reason": "asked"})])
    if "Greet" in system(body):
        return ServerAnswer(text=GREETED if "Greet Ada." in system(body) else "Hello nobody.")
    return ServerAnswer(text="Hm.") if last(body)["role"] == "tool" else ServerAnswer(calls=[("find", {})])


class Balancer:
    """One address for several servers: new connections go to the one that is chosen."""

    def __init__(self, url: str) -> None:
        self.chosen = url
        self._pumps: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Forward from a free port, which is told as a URL."""
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
async def found(database_url: str, tmp_path: Path) -> AsyncIterator[tuple[World, ScriptedModel, str]]:
    """A world with such a model, and where an office finds callers."""
    async with (
        running_server(Served(body=b'{"name": "Ada"}')) as office,
        ScriptedModel(finding).running() as model,
    ):
        allowed = urlsplit(office.url).netloc
        async with moved_in(
            database_url, tmp_path, OPENAI_BASE_URL=model.url, VOICEBOT_HTTP_ALLOW=allowed
        ) as world:
            yield world, model, office.url


async def test_a_lost_stream_goes_on_in_the_node_it_was_in(
    found: tuple[World, ScriptedModel, str],
) -> None:
    """After the stream was lost in the second node the model has that node's task, role and variables."""
    world, model, office = found
    desk = await world.desk(world.route("billing", await world.agent()), **flow_that_finds(office))
    script = (hear(), Say(text=OPEN), hear(), Wait(ms=4000), Say(text=OPEN), hear(), HangUp())
    call = await world.place(*script, to=desk, wrong=Misbehaviour(drop_after_ms=6500))

    assert call.record["resumes"] == 1
    assert set(call.words()) == {WELCOME, GREETED}
    assert call.record["node"] == "greet"
    resumed = next(index for index, event in enumerate(call.all_events) if event["type"] == "call.resumed")
    assert [e["node"] for e in call.all_events[resumed:] if e["type"] == "node.entered"] == ["greet"]
    assert len(call.events("function.called")) == 1
    assert "You are the finder." in system(model.asked[-1])
    assert "Greet Ada." in system(model.asked[-1])


async def test_another_replica_goes_on_with_it(found: tuple[World, ScriptedModel, str]) -> None:
    """The next stream may come to a process that has never seen the call, while a target had it."""
    world, model, office = found
    finder = await world.agent(**flow_that_finds(office))
    desk = await world.desk(world.route("billing", finder))
    balancer = Balancer(world.server.url)
    settings = world.server.app_state.settings
    async with (
        serving(settings) as second,
        balancer.running() as address,
        Carrier(
            CarrierSettings(
                public_url=PUBLIC_URL,
                server_url=address,
                account_sid=TWILIO_ACCOUNT_SID,
                auth_token=TWILIO_AUTH_TOKEN,
            )
        ) as carrier,
    ):
        script = (hear(), Say(text=OPEN), hear(), Wait(ms=4000), Say(text=OPEN), hear(), HangUp())
        person = Caller(script=script, voice_id="caller-1", attentive=False)
        wrong = Misbehaviour(drop_after_ms=6500)
        call = carrier.call(from_="+14155559999", to=desk, person=person, wrong=wrong)
        await call.answered.wait()
        while not call.streams:
            await asyncio.sleep(0.02)
        balancer.chosen = second.url
        await call.ended()
        facts = await world.facts(call, person)

    assert facts.outcome.ok, facts.outcome.failure
    assert facts.record["resumes"] == 1
    assert set(facts.words()) == {WELCOME, GREETED}
    assert len(facts.routes) == len(facts.events("function.called")) == 1
    assert facts.transcript[-1]["template_id"] == finder["id"]
    assert "Greet Ada." in system(model.asked[-1])
