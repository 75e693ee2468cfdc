"""The demo from beginning to end: everything started, the call placed and watched, everything stopped."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from aiohttp import web
from rich.console import Console

from voicebot.sandbox.audio import wav
from voicebot.sandbox.audio.analysis import analyse
from voicebot.sandbox.caller import Caller
from voicebot.sandbox.carrier import Call, Carrier, CarrierSettings
from voicebot.sandbox.carrier.rest import TwilioRest
from voicebot.sandbox.demo import scenario
from voicebot.sandbox.demo.account import ORCHESTRATOR, Api, build
from voicebot.sandbox.demo.backend import Office
from voicebot.sandbox.demo.call_log import Line, follow, newest_call
from voicebot.sandbox.demo.checks import Story, faults
from voicebot.sandbox.demo.display import Screen
from voicebot.sandbox.demo.server import ServerProcess
from voicebot.sandbox.environment import TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN
from voicebot.sandbox.process import SandboxProcess

_CALL_S = 90.0


class CallTooLong(RuntimeError):
    """The call did not end within 90 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the demo leaves behind; `lines` are what was shown."""

    told: Story
    faults: tuple[str, ...]
    recording: Path
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _World:
    """Everything that runs while the call is on."""

    api: Api
    carrier: Carrier
    office: Office
    ids: dict[str, str]


async def play(console: Console, directory: Path) -> Result:
    """Place the call and show it; the recording is written into `directory`.

    Raises:
        ServerFailed, SandboxFailed, Refused, CallMissing, CallTooLong: what did not work, in plain words.
    """
    began = time.monotonic()
    console.print("Starting the vendors' stand-ins and the server …", style="bright_black")
    async with _world() as world:
        agents = {
            world.ids[name]: name.replace("_", " ") for name in (ORCHESTRATOR, "billing", "technicians")
        }
        screen = Screen(console, agents)
        screen.note(f"{scenario.CALLER} dials {scenario.NUMBER} ({time.monotonic() - began:.1f} s).\n")
        caller = Caller(script=scenario.script(), voice_id=scenario.CALLER_VOICE)
        call = world.carrier.call(from_=scenario.CALLER, to=scenario.NUMBER, person=caller)
        lines = await _watched(world.api, call, screen)
        recording = call.recording()
        path = wav.write(directory / f"demo-{datetime.now().astimezone():%Y%m%d-%H%M%S}.wav", recording)
        analysis = asyncio.create_task(asyncio.to_thread(analyse, recording))
        call_id = lines[0].record["call_id"] if lines else await newest_call(world.api)
        record = await world.api.get(f"/calls/{call_id}")
        lead = await world.api.get(f"/leads/{record['lead_id']}")
        told = Story(
            ids=world.ids,
            caller=caller.outcome,
            complaints=tuple(str(complaint) for complaint in call.complaints),
            call=record,
            lead=lead,
            events=(await world.api.get(f"/calls/{call_id}/events"))["items"],
            transcript=(await world.api.get(f"/calls/{call_id}/transcript"))["items"],
            routes=(await world.api.get(f"/calls/{call_id}/routes"))["items"],
            visits=tuple(world.office.visits),
            heard=await analysis,
        )
        screen.lead(lead, *(agents.get(lead[key], "?") for key in ("initial_template_id", "template_id")))
        screen.recording(path, told.heard)
    found = tuple(faults(told))
    screen.verdict(found, time.monotonic() - began)
    return Result(told=told, faults=found, recording=path, lines=tuple(lines))


@asynccontextmanager
async def _world() -> AsyncIterator[_World]:
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="voicebot-demo-")))
        rest = stack.enter_context(socket.socket())
        rest.bind(("127.0.0.1", 0))
        office = await stack.enter_async_context(Office())
        sandbox = await stack.enter_async_context(SandboxProcess(scenario.PHRASES))
        environment = sandbox.env | {
            "TWILIO_API_URL": f"http://127.0.0.1:{rest.getsockname()[1]}",
            "VOICEBOT_HTTP_ALLOW": office.address,
        }
        server = await stack.enter_async_context(ServerProcess(directory, environment))
        account = await server.ask("accounts", "create", "--name", "Acme Heating", "--json")
        key = await server.ask(
            "keys", "create", "--account", account["account_id"], "--role", "owner", "--json"
        )
        api = Api(server.url, key["key"])
        stack.push_async_callback(api.aclose)
        settings = CarrierSettings(
            public_url=server.url, account_sid=TWILIO_ACCOUNT_SID, auth_token=TWILIO_AUTH_TOKEN
        )
        carrier = await stack.enter_async_context(Carrier(settings))
        runner = web.AppRunner(TwilioRest(carrier).application(), access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, rest).start()
        ids = await build(api, scenario.NUMBER, office)
        yield _World(api=api, carrier=carrier, office=office, ids=ids)


async def _watched(api: Api, call: Call, screen: Screen) -> list[Line]:
    """Show the call until it has ended here and on the record."""
    lines: list[Line] = []
    try:
        async with asyncio.timeout(_CALL_S):
            call_id = await newest_call(api)
            async for line in follow(api, call_id, lambda: False):
                screen.line(line)
                lines.append(line)
            await call.ended()
    except TimeoutError:
        raise CallTooLong(f"The call did not end within {_CALL_S:.0f} s.") from None
    return lines
