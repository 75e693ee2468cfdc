"""Runs the demo: starts everything, places the call and shows it, checks it, and stops everything."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from aiohttp import web
from rich.console import Console

from voicebot.sandbox.audio import wav
from voicebot.sandbox.audio.analysis import analyse
from voicebot.sandbox.caller import Caller
from voicebot.sandbox.carrier import Call, Carrier, CarrierSettings
from voicebot.sandbox.carrier.rest import TwilioRest
from voicebot.sandbox.demo import scenario
from voicebot.sandbox.demo.account import ACCOUNT, ORCHESTRATOR, Api, build
from voicebot.sandbox.demo.backend import Backend
from voicebot.sandbox.demo.call_log import Line, follow, newest_call
from voicebot.sandbox.demo.checks import CallResult, faults
from voicebot.sandbox.demo.display import Display
from voicebot.sandbox.demo.server import Installation, ServerProcess
from voicebot.sandbox.environment import EXOTEL_WEBHOOK_SECRET, TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN
from voicebot.sandbox.exotel import Exotel, ExotelCall, ExotelSettings
from voicebot.sandbox.exotel.rest import ExotelRest
from voicebot.sandbox.process import SandboxProcess

CarrierName = Literal["twilio", "exotel"]

PUBLIC_URL = "https://demo.example.com"
"""Where the carrier believes a server that dials."""

_CALL_S = 90.0


class CallTooLong(RuntimeError):
    """The call did not end within 90 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where `voicebot serve` shows the call, and a key that may see it."""

    data_dir: Path
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of the demo; `lines` are what was printed. `kept` is None if the call was not kept."""

    call_result: CallResult
    faults: tuple[str, ...]
    recording: Path
    lines: tuple[Line, ...]
    kept: Kept | None

    def as_json(self) -> dict[str, object]:
        """Plain data."""
        call_result, kept = self.call_result, self.kept
        return {
            "ok": not self.faults,
            "faults": self.faults,
            "recording": str(self.recording),
            "kept": None if kept is None else {"data_dir": str(kept.data_dir), "key": kept.key},
            "templates": call_result.ids,
            "call": call_result.call,
            "lead": call_result.lead,
            "routes": call_result.routes,
            "transcript": call_result.transcript,
            "events": call_result.events,
            "shown": [
                {"at_ms": each.at_ms, "kind": each.kind, "id": each.record["id"]} for each in self.lines
            ],
            "heard": call_result.measured.as_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Environment:
    """What runs during the call."""

    api: Api
    carrier: Carrier | Exotel
    backend: Backend
    ids: dict[str, str]


async def run(console: Console, directory: Path, data_dir: Path, carrier: CarrierName = "twilio") -> Result:
    """Place the call by a carrier and print it; write the recording into `directory`.

    The call is kept in the database in `data_dir`, unless accounts of others are in it.

    Raises:
        ServerFailed, SandboxFailed, Refused, CallMissing, CallTooLong: what did not work.
    """
    began = time.monotonic()
    console.print("Starting the vendors' stand-ins and the server …", style="bright_black")
    # The demo's number has one carrier in the database that is kept.
    kept = await _kept(data_dir) if carrier == "twilio" else None
    async with _environment(carrier, kept) as running:
        agents = {
            running.ids[name]: name.replace("_", " ") for name in (ORCHESTRATOR, "billing", "technicians")
        }
        display = Display(console, agents)
        display.note(f"{scenario.CALLER} dials {scenario.NUMBER} ({time.monotonic() - began:.1f} s).\n")
        caller = Caller(script=scenario.script(), voice_id=scenario.CALLER_VOICE)
        earlier = (await running.api.get("/calls?limit=1"))["items"]
        before = earlier[0]["id"] if earlier else None
        call = running.carrier.call(from_=scenario.CALLER, to=scenario.NUMBER, person=caller)
        lines = await show(running.api, call, display, before=before)
        recording = call.recording()
        path = wav.write(directory / f"demo-{datetime.now().astimezone():%Y%m%d-%H%M%S}.wav", recording)
        analysis = asyncio.create_task(asyncio.to_thread(analyse, recording))
        call_id = lines[0].record["call_id"] if lines else await newest_call(running.api, before=before)
        record = await running.api.get(f"/calls/{call_id}")
        lead = await running.api.get(f"/leads/{record['lead_id']}")
        call_result = CallResult(
            ids=running.ids,
            caller=caller.outcome,
            complaints=tuple(str(complaint) for complaint in call.complaints),
            call=record,
            lead=lead,
            events=(await running.api.get(f"/calls/{call_id}/events"))["items"],
            transcript=(await running.api.get(f"/calls/{call_id}/transcript"))["items"],
            routes=(await running.api.get(f"/calls/{call_id}/routes"))["items"],
            visits=tuple(running.backend.visits),
            measured=await analysis,
        )
        display.lead(lead, *(agents.get(lead[key], "?") for key in ("initial_template_id", "template_id")))
        display.recording(path, call_result.measured)
        if kept is not None:
            display.kept(data_dir, call_id, running.api.key)
    found = tuple(faults(call_result))
    display.result(found, time.monotonic() - began)
    return Result(
        call_result=call_result,
        faults=found,
        recording=path,
        lines=tuple(lines),
        kept=Kept(data_dir=data_dir, key=running.api.key) if kept is not None else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Database:
    """Where the demo's account is, or is to be created."""

    data_dir: Path
    account_id: str | None


async def _kept(data_dir: Path) -> _Database | None:
    """The database for the demo in a data directory; None: it has accounts that are not the demo's."""
    if not (data_dir / "postgres").is_dir():
        return _Database(data_dir=data_dir, account_id=None)
    with tempfile.TemporaryDirectory(prefix="voicebot-demo-") as directory:
        listed = await Installation(Path(directory), data_dir).ask("accounts", "list", "--json")
    accounts = {each["name"]: each["account_id"] for each in listed["accounts"]}
    if accounts.keys() - {ACCOUNT}:
        return None
    return _Database(data_dir=data_dir, account_id=accounts.get(ACCOUNT))


@asynccontextmanager
async def _environment(name: CarrierName, database: _Database | None) -> AsyncIterator[_Environment]:
    async with (
        Backend() as backend,
        telephone(scenario.PHRASES, http_allow=backend.address, carrier=name, database=database) as (
            api,
            carrier,
        ),
    ):
        ids = await build(api, scenario.NUMBER, backend, name)
        yield _Environment(api=api, carrier=carrier, backend=backend, ids=ids)


@asynccontextmanager
async def telephone(
    phrases: Sequence[str],
    *,
    http_allow: str = "",
    carrier: CarrierName = "twilio",
    dials: bool = False,
    database: _Database | None = None,
) -> AsyncIterator[tuple[Api, Carrier | Exotel]]:
    """A server with an account, and a carrier whose calls it answers; all of it is local and temporary.

    Args:
        phrases: what callers will say.
        http_allow: private addresses that HTTP functions may reach (``VOICEBOT_HTTP_ALLOW``).
        carrier: which carrier.
        dials: whether the server dials leads, by Twilio.
        database: where the account is; it stays. None: a new one in a temporary directory.

    Raises:
        ServerFailed, SandboxFailed: something did not start.
    """
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="voicebot-demo-")))
        rest = stack.enter_context(socket.socket())
        rest.bind(("127.0.0.1", 0))
        installation = Installation(directory, database.data_dir if database is not None else None)
        # The database is created and the sandbox starts while the server does.
        key = asyncio.create_task(_create_key(installation, database.account_id if database else None))
        stack.push_async_callback(_settled, key)
        sandbox = await stack.enter_async_context(SandboxProcess(phrases, wait=False))
        environment = sandbox.env | {
            f"{carrier.upper()}_API_URL": f"http://127.0.0.1:{rest.getsockname()[1]}",
            "VOICEBOT_HTTP_ALLOW": http_allow,
        }
        if dials:  # its port is not known yet, so the carrier is told another address
            environment["PUBLIC_URL"] = PUBLIC_URL
        server = await stack.enter_async_context(ServerProcess(installation, environment))
        await sandbox.ready()
        api = Api(server.url, await key)
        stack.push_async_callback(api.aclose)
        simulated = _simulated(carrier, server.url, dials=dials)
        await stack.enter_async_context(simulated)
        rest_api = TwilioRest(simulated) if isinstance(simulated, Carrier) else ExotelRest(simulated)
        runner = web.AppRunner(rest_api.application(), access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, rest).start()
        yield api, simulated


def _simulated(carrier: CarrierName, url: str, *, dials: bool) -> Carrier | Exotel:
    """A carrier that is pointed at the server."""
    if carrier == "exotel":
        return Exotel(ExotelSettings(public_url=url, secret=EXOTEL_WEBHOOK_SECRET))
    return Carrier(
        CarrierSettings(
            public_url=PUBLIC_URL if dials else url,
            server_url=url if dials else None,
            account_sid=TWILIO_ACCOUNT_SID,
            auth_token=TWILIO_AUTH_TOKEN,
        )
    )


async def _create_key(installation: Installation, account_id: str | None) -> str:
    """Create the account if there is none; return a key of its owner."""
    if account_id is None:
        created = await installation.ask("accounts", "create", "--name", ACCOUNT, "--json")
        account_id = created["account_id"]
    create = ("keys", "create", "--account", account_id, "--role", "owner", "--label", "demo", "--json")
    return str((await installation.ask(*create))["key"])


async def _settled(task: asyncio.Task[str]) -> None:
    """Wait for a task, so that no command is killed while it creates the database."""
    await asyncio.gather(task, return_exceptions=True)


async def show(
    api: Api, call: Call | ExotelCall, display: Display, *, before: str | None = None
) -> list[Line]:
    """Print the call until it has ended at the carrier and in the API; `before` was the newest one before.

    Raises:
        CallMissing, CallTooLong: it did not begin, or did not end within 90 s.
    """
    lines: list[Line] = []
    try:
        async with asyncio.timeout(_CALL_S):
            call_id = await newest_call(api, before=before)
            async for line in follow(api, call_id):
                display.line(line)
                lines.append(line)
            await call.ended()
    except TimeoutError:
        raise CallTooLong(f"The call did not end within {_CALL_S:.0f} s.") from None
    return lines
