"""Calls whose vendors fail: 15 faults at 5 stages of a call for each of 3 services, with or without a backup.

    python -m bench.faults [--cells 12] [--only "tts answer"] [--alone] [--carrier exotel]

Each cell is one call: greeting, a question, a route, a goodbye. The fault is switched on at its stage; where
it concerns a connection, the open ones are cut, so that it is met. A cell that never met its fault is
reported as `not_hit`. For each cell, and as a summary: the longest time in which neither side spoke, the
agent's words that were lost or heard twice, and how the call ended. A call that the server ends must have a
word of the agent behind the caller's last one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count, product
from typing import Any

from bench.environment import NUMBER, PUBLIC_URL, VoicebotServer, voicebot_server
from bench.handoff_setup import fresh_server
from bench.report import run_and_report
from db.pool import Database
from voicebot.providers.health import REFRESH_S
from voicebot.sandbox.audio.measurement import spans
from voicebot.sandbox.caller import Caller, Listen, Say, Step, WaitForHangUp
from voicebot.sandbox.carrier import Call, Carrier, CarrierSettings
from voicebot.sandbox.environment import Sandbox
from voicebot.sandbox.exotel import Exotel, ExotelCall, ExotelSettings
from voicebot.sandbox.speech.scripted import tone_pcm
from voicebot.sandbox.vendors.faults import Fault, Kind, Server
from voicebot.sandbox.vendors.faults import Stage as Moment
from voicebot.sandbox.vendors.latency import Latency

WELCOME, HOURS, BILLING = "Acme, good morning.", "Acme is open from eight to five.", "Billing here."
OPEN, BILL, BYE = "When are you open?", "I have a question about my bill.", "Thank you, goodbye."
LIMIT_MS = 2000.0
"""No silence of ours is longer (issue: no dead air)."""

SETTLE_S = 1.5
_SLOW_MS = 3000.0
_callers = count(14155570000)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKind:
    """What a vendor does wrong, and how often."""

    kind: Kind
    moment: Moment
    times: int | None

    def of(self, server: Server, match: str) -> Fault:
        """The fault of one vendor."""
        return Fault(
            server=server, kind=self.kind, stage=self.moment, match=match, count=self.times,
            delay_ms=_SLOW_MS, retry_after_s=5.0,
        )  # fmt: skip


FAULTS: Mapping[str, FaultKind] = {
    "refused 401": FaultKind(kind="unauthorized", moment="connect", times=None),
    "refused 429": FaultKind(kind="rate_limited", moment="connect", times=None),
    "refused 500": FaultKind(kind="broken", moment="connect", times=None),
    "refused once": FaultKind(kind="broken", moment="connect", times=1),
    "dropped at connect": FaultKind(kind="drop", moment="connect", times=None),
    "hangs at connect": FaultKind(kind="hang", moment="connect", times=None),
    "hangs once": FaultKind(kind="hang", moment="connect", times=1),
    "connects slowly": FaultKind(kind="slow", moment="connect", times=None),
    "drops once": FaultKind(kind="drop", moment="message", times=1),
    "drops twice": FaultKind(kind="drop", moment="message", times=2),
    "drops always": FaultKind(kind="drop", moment="message", times=None),
    "silent once": FaultKind(kind="hang", moment="message", times=1),
    "silent always": FaultKind(kind="hang", moment="message", times=None),
    "error once": FaultKind(kind="broken", moment="message", times=1),
    "slow once": FaultKind(kind="slow", moment="message", times=1),
}
STAGES = ("before", "greeting", "answer", "route", "goodbye")
SERVICES: Mapping[str, tuple[Server, str]] = {
    "stt": ("deepgram", "/v1/listen"),
    "llm": ("openai", '"preferred"'),
    "tts": ("elevenlabs", "multi-stream-input"),
}
BACKUPS: Mapping[str, list[dict[str, Any]]] = {
    "stt": [{"provider": "elevenlabs"}],
    "tts": [{"provider": "deepgram", "voice_id": "aura-2-thalia-en"}],
    "llm": [{"provider": "sandbox", "model": "reserve"}],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One call with one fault."""

    service: str
    stage: str
    fault: str
    backed_up: bool

    @property
    def name(self) -> str:
        """How the cell is chosen and reported."""
        return f"{self.service} {self.stage} {self.fault}{'' if self.backed_up else ' alone'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a cell's call was like for its caller."""

    cell: str
    not_hit: bool
    silence_ms: float
    silence_at_ms: float
    words_lost: int
    words_doubled: int
    ended_by: str | None
    end_reason: str | None
    ended_without_a_word: bool
    heard: Sequence[str]


def cells(*, alone: bool = False) -> list[Cell]:
    """All cells of the table; ``alone``: without backups.

    A connection that is cut in a call is followed by one to the backup, which does not meet the fault; these
    cells have no backup.
    """
    return [
        Cell(
            service=service,
            stage=stage,
            fault=fault,
            backed_up=not alone and (stage == "before" or FAULTS[fault].moment == "message"),
        )
        for service, stage, fault in product(SERVICES, STAGES, FAULTS)
    ]


class FaultBench:
    """A server whose vendors fail on request, and its carrier."""

    def __init__(
        self, sandbox: Sandbox, server: VoicebotServer, carrier: Carrier | Exotel, database: Database
    ) -> None:
        self._database = database
        self._sandbox = sandbox
        self._server = server
        self._carrier = carrier

    async def prepare(self) -> dict[bool, str]:
        """Two numbers: whether its agents have backups → the number."""
        numbers: dict[bool, str] = {}
        name = "exotel" if isinstance(self._carrier, Exotel) else "twilio"
        for backed_up, e164 in ((True, NUMBER), (False, f"{NUMBER[:-1]}9")):
            services = {
                "stt": {"provider": "deepgram", "backup": BACKUPS["stt"] if backed_up else []},
                "llm": {"model": "preferred", "backup": BACKUPS["llm"] if backed_up else []},
                "tts": {"voice_id": "voice-8", "backup": BACKUPS["tts"] if backed_up else []},
                "turns": {"end_silence_ms": 300},
                "idle": {"after_ms": 60_000, "prompts": ["Are you there?"]},
                "status": "active",
            }
            agent = await self._server.create(
                "/templates",
                {
                    "name": f"Billing {backed_up}", "description": "Bills.", **services,
                    "prompt": f'You are billing. Say "{BILLING}" first.',
                },
            )  # fmt: skip
            number = await self._server.create("/numbers", {"e164": e164, "carrier": name})
            route = {"name": "billing", "template_id": agent["id"], "when": "The caller asks about a bill."}
            await self._server.create(
                "/templates",
                {
                    "name": f"Desk {backed_up}", "description": "Desk.", "kind": "orchestrator", **services,
                    "prompt": f"You are the desk of Acme. {HOURS}", "number_id": number["id"],
                    "greeting": {"text": WELCOME}, "routes": [route],
                },
            )  # fmt: skip
            numbers[backed_up] = e164
        return numbers

    async def run(self, cell: Cell, number: str) -> Result:
        """Make the call of a cell."""
        sandbox = self._sandbox
        sandbox.faults.clear()
        sandbox.transcripts.clear()
        hits = sandbox.faults.hits
        steps: list[Step] = [
            Listen(quiet_ms=450.0, timeout_ms=15_000), Say(text=OPEN),
            Listen(quiet_ms=450.0, timeout_ms=15_000), Say(text=BILL),
            Listen(quiet_ms=450.0, timeout_ms=15_000), Say(text=BYE), WaitForHangUp(timeout_ms=20_000),
        ]  # fmt: skip
        begins = dict(zip(STAGES[1:], (steps[0], steps[1], steps[3], steps[5]), strict=True))

        def on_step(step: Step) -> None:
            if isinstance(step, Say) and cell.service == "stt":
                sandbox.transcripts.clear()
                sandbox.transcripts.announce(*[step.text] * 4)  # other connections hear it again
            if step is begins.get(cell.stage):
                self._break(cell)

        if cell.stage == "before":
            self._break(cell)
        person = Caller(
            script=steps, voice_id="caller-1", attentive=False, on_step=on_step, synthesise=tone_pcm,
            announce=sandbox.transcripts.announce,
        )  # fmt: skip
        call = self._carrier.call(from_=f"+{next(_callers)}", to=number, person=person)
        await call.ended()
        is_hit = sandbox.faults.hits > hits
        sandbox.faults.clear()
        await self._forget_health()
        return await self._result(cell, call, is_hit=is_hit)

    async def _forget_health(self) -> None:
        """Have the server forget which providers failed: the next cell must meet its fault."""
        await asyncio.sleep(SETTLE_S)
        await self._database.execute(
            "UPDATE provider_health SET fault = NULL, until = NULL, probe_until = NULL, failures = 0"
        )
        await asyncio.sleep(REFRESH_S + 0.2)

    def _break(self, cell: Cell) -> None:
        server, match = SERVICES[cell.service]
        fault = FAULTS[cell.fault].of(server, match)
        self._sandbox.faults.add(fault)
        if fault.stage == "connect" and cell.stage != "before":
            self._sandbox.usage.sever(server)

    async def _result(self, cell: Cell, call: Call | ExotelCall, *, is_hit: bool) -> Result:
        recording = call.recording()
        silence_ms, at_ms, agent_is_last = longest_silence(recording.sent, recording.received)
        items = (await self._server.api.get("/calls", params={"limit": 50})).json()["items"]
        record = next(item for item in items if item["carrier_call_id"] == call.sid)
        rows = (await self._server.api.get(f"/calls/{record['id']}/transcript")).json()["items"]
        heard = [row["heard_text"] for row in rows if row["speaker"] == "agent"]
        lost, doubled = _lost_and_doubled(" ".join((WELCOME, HOURS, BILLING)), " ".join(heard))
        return Result(
            cell=cell.name,
            not_hit=not is_hit,
            silence_ms=round(silence_ms),
            silence_at_ms=round(at_ms),
            words_lost=lost,
            words_doubled=doubled,
            ended_by=record["ended_by"],
            end_reason=record["end_reason"],
            ended_without_a_word=record["ended_by"] in ("system", "carrier") and not agent_is_last,
            heard=heard,
        )


def longest_silence(sent: Any, received: Any) -> tuple[float, float, bool]:
    """The longest silence of both sides in ms, where it begins, and whether the agent spoke last."""
    caller = [(span.start_ms, span.end_ms, False) for span in spans(sent, pause_ms=200.0)]
    agent = [(span.start_ms, span.end_ms, True) for span in spans(received, pause_ms=200.0)]
    sounds = sorted([*caller, *agent])
    longest, at, until, last = 0.0, 0.0, 0.0, False
    for start, end, is_agent in [*sounds, (len(received) / 8, len(received) / 8, False)]:
        if start - until > longest:
            longest, at = start - until, until
        if end > until and start < len(received) / 8:
            until, last = end, is_agent
    return longest, at, last


def _lost_and_doubled(expected: str, heard: str) -> tuple[int, int]:
    """How many of the expected words were not heard, and how many were heard more often than expected."""
    wanted, found = Counter(expected.lower().split()), Counter(heard.lower().split())
    return (wanted - found).total(), sum(max(0, found[word] - wanted[word]) for word in wanted)


@contextlib.asynccontextmanager
async def fault_bench(carrier_name: str = "twilio") -> AsyncIterator[FaultBench]:
    """The processes of the bench; ``carrier_name`` is ``twilio`` or ``exotel``."""
    quick = Latency(first_token_ms=20, token_ms=1, first_audio_ms=20, audio_ms=1)
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="voicebot-faults-"))
        sandbox = await stack.enter_async_context(Sandbox(latency=quick, scripted_speech=True))
        dsn = await stack.enter_async_context(fresh_server())
        database = await Database.connect(dsn)
        stack.push_async_callback(database.close)
        environment = {**sandbox.env, "DATABASE_URL": dsn}
        server = await stack.enter_async_context(voicebot_server(environment, directory))
        carrier = _carrier(carrier_name, server.url, sandbox.env)
        await stack.enter_async_context(carrier)
        await sandbox.attach(carrier)
        yield FaultBench(sandbox, server, carrier, database)


def _carrier(name: str, server_url: str, env: Mapping[str, str]) -> Carrier | Exotel:
    if name == "exotel":
        secret = env["EXOTEL_WEBHOOK_SECRET"]
        return Exotel(ExotelSettings(public_url=PUBLIC_URL, server_url=server_url, secret=secret))
    sid, token = env["TWILIO_ACCOUNT_SID"], env["TWILIO_AUTH_TOKEN"]
    return Carrier(
        CarrierSettings(public_url=PUBLIC_URL, server_url=server_url, account_sid=sid, auth_token=token)
    )


async def run_cells(chosen: Iterable[Cell], carrier_name: str = "twilio") -> list[Result]:
    """Run cells one after another on one server."""
    results: list[Result] = []
    async with fault_bench(carrier_name) as bench:
        numbers = await bench.prepare()
        for cell in chosen:
            results.append(await bench.run(cell, numbers[cell.backed_up]))
            print(results[-1], file=sys.stderr, flush=True)
    return results


async def measure(chosen: Sequence[Cell], carrier_name: str) -> dict[str, Any]:
    """Run cells and sum them up."""
    results = await run_cells(chosen, carrier_name)
    return {
        "cells": len(results),
        "not_hit": [each.cell for each in results if each.not_hit],
        "longest_silence_ms": max(each.silence_ms for each in results),
        "over_limit": [(each.cell, each.silence_ms) for each in results if each.silence_ms > LIMIT_MS],
        "ended_without_a_word": [each.cell for each in results if each.ended_without_a_word],
        "words_lost": sum(each.words_lost for each in results),
        "words_doubled": sum(each.words_doubled for each in results),
        "results": [asdict(each) for each in results],
    }


def main() -> None:
    """Run the bench from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cells", type=int, default=12, help="how many cells, chosen at random; 0: all")
    parser.add_argument("--only", default="", help="only cells whose name begins like this")
    parser.add_argument("--alone", action="store_true", help="no cell has a backup")
    parser.add_argument("--carrier", choices=("twilio", "exotel"), default="twilio")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chosen = [c for c in cells(alone=arguments.alone) if c.name.startswith(arguments.only)]
    if arguments.cells:
        random.Random(arguments.seed).shuffle(chosen)
        chosen = chosen[: arguments.cells]
    asyncio.run(run_and_report(measure(chosen, arguments.carrier)))


if __name__ == "__main__":
    main()
