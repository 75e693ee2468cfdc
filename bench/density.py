"""Calls on one core: ``python -m bench.density --calls 1,5,10,20,30,40``.

A server runs alone in its process; its CPU time is read from ``/proc``. Vendors (`bench.light_vendors`) and
callers (`bench.light_callers`, this process) use little CPU time, and PostgreSQL has processes of its own.
The subjects are voicebot and a bare pipecat bot (`bench.bare_bot`), each with turns by the STT vendor and
with Silero. Every call is routed once and has a turn about every 6 s. For each number of calls:

- ``cpu_percent_a_call``: CPU time of the process per call and second, as percent of a core; ``cores``: all;
- ``memory_mb_a_call``: growth of the resident set per call;
- ``answer_ms``: from the end of the caller's speech to the first sound of an ordinary answer, of which 600 ms
  are the silence that ends a turn; ``route_ms`` the same for the routed turn, and ``route_gap_ms`` their
  difference at p50 without the first token of a second request;
- ``first_word_ms``: from the start of the stream to the first sound; ``webhook_ms``;
- ``late_percent``: audio that came more than 20 ms after the caller's buffer had run empty; ``gaps``;
- ``caller_tick_late_ms``: the largest delay of this process; above 20 the machine was overloaded.

``max_calls`` is the highest number with at most 0.1 % late audio and an answer p95 within 100 ms of that with
one call. ``--profile`` adds the functions in which the server's main thread spent most of its CPU time,
with the last number of calls. The result is JSON on standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from bench.conversations import ASK_BILLING, BILLING, CONVERSATIONS, FRONT
from bench.environment import NUMBER, PUBLIC_URL, ROOT, VoicebotServer, voicebot_server
from bench.light_callers import Carrier, Figures, converse
from bench.light_vendors import FIRST_TOKEN_S
from bench.report import percentiles
from voicebot.sandbox.carrier import CarrierSettings
from voicebot.sandbox.environment import TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN

SUBJECTS = ("voicebot-stt", "voicebot-silero", "pipecat-stt", "pipecat-silero")
RAMP_S = 6.0
SETTLE_S = 3.0
MAX_LATE_PERCENT = 0.1
MAX_ADDED_MS = 100.0
GREETING = "Hello, this is Acme, how may I help you?"

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A running server and the carrier that calls it."""

    pid: int
    carrier: Carrier

    def cpu_s(self) -> float:
        """CPU time of the server's process and of its child processes, all threads, in seconds."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sum(_cpu_s(pid) for pid in (str(self.pid), *children))

    def memory_mb(self) -> float:
        """Resident set of the server's process."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE_MB


def _cpu_s(pid: str) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


async def measure(subjects: Sequence[str], levels: Sequence[int], window_s: float, profile: bool) -> Any:
    """Measure every subject with every number of calls."""
    results: dict[str, Any] = {}
    async with contextlib.AsyncExitStack() as stack:
        vendors = await stack.enter_async_context(
            bench_process([sys.executable, "-m", "bench.light_vendors"])
        )
        for name in subjects:
            async with running_subject(name, vendors[0], profile=profile) as (subject, top):
                results[name] = await _levels(subject, levels, window_s, profile=profile)
                if profile:
                    results[name]["profile"] = await top()
    return {"machine": machine(), "subjects": results}


def machine() -> str:
    """The machine and versions of the figures."""
    return f"{os.cpu_count()} cores, Python {platform.python_version()}"


async def _levels(
    subject: Subject, levels: Sequence[int], window_s: float, *, profile: bool
) -> dict[str, Any]:
    await _level(subject, 1, 8.0)  # what only the first call pays
    idle_mb = subject.memory_mb()
    measured: dict[str, Any] = {}
    for count in levels:
        if profile:
            os.kill(subject.pid, signal.SIGUSR1)
        measured[str(count)] = await _level(subject, count, window_s, idle_mb)
    return {"calls": measured, "idle_mb": round(idle_mb, 1), "max_calls": _max_calls(measured)}


async def _level(subject: Subject, count: int, window_s: float, idle_mb: float = 0.0) -> dict[str, Any]:
    running: set[asyncio.Task[None]] = set()
    calls = await converse(subject.carrier, count, RAMP_S, running)
    cpu_s, started = subject.cpu_s(), asyncio.get_running_loop().time()
    await asyncio.sleep(window_s)
    used_s = (subject.cpu_s() - cpu_s) / (asyncio.get_running_loop().time() - started)
    memory_mb = subject.memory_mb() - idle_mb
    for call in calls:
        call.hangs_up.set()
    await asyncio.gather(*running)
    await asyncio.sleep(SETTLE_S)
    return {
        "cores": round(used_s, 3),
        "cpu_percent_a_call": round(100 * used_s / count, 2),
        "memory_mb_a_call": round(memory_mb / count, 1),
        **_figures([call.figures for call in calls]),
    }


def _figures(calls: Sequence[Figures]) -> dict[str, Any]:
    answers = [answer for call in calls for answer in call.answers[:-1]]  # the last may be cut off
    ordinary = [1000 * a.after_s for a in answers if a.after_s is not None and a.question != ASK_BILLING]
    routed = [
        1000 * a.after_s
        for a in answers
        if a.after_s is not None and a.question == ASK_BILLING and a.voice == BILLING
    ]
    audio_s = sum(call.audio_s for call in calls)
    figures: dict[str, Any] = {
        "answer_ms": _percentiles(ordinary),
        "route_ms": _percentiles(routed),
        "first_word_ms": _percentiles(
            [1000 * call.first_audio_s for call in calls if call.first_audio_s is not None]
        ),
        "webhook_ms": _percentiles([1000 * call.webhook_s for call in calls]),
        "late_percent": round(100 * sum(call.late_s for call in calls) / audio_s, 3) if audio_s else None,
        "gaps": sum(call.gaps for call in calls),
        "worst_gap_ms": round(1000 * max(call.worst_gap_s for call in calls), 1),
        "unanswered": sum(answer.after_s is None for answer in answers),
        "lost_calls": sum(call.lost for call in calls),
        "caller_tick_late_ms": round(1000 * max(call.tick_late_s for call in calls), 1),
    }
    if ordinary and routed:
        gap = figures["route_ms"]["p50"] - figures["answer_ms"]["p50"] - 1000 * FIRST_TOKEN_S
        figures["route_gap_ms"] = round(gap, 1)
    return figures


def _percentiles(samples: Sequence[float]) -> dict[str, float] | None:
    return percentiles(samples) if samples else None


def _max_calls(measured: Mapping[str, Any]) -> int:
    """The highest number of calls that keeps the two limits, with every smaller number keeping them too."""
    highest, alone_ms = 0, None
    for count, figures in measured.items():
        if figures["answer_ms"] is None or figures["late_percent"] is None:
            break
        p95_ms = figures["answer_ms"]["p95"]
        alone_ms = p95_ms if alone_ms is None else alone_ms
        if figures["late_percent"] > MAX_LATE_PERCENT or p95_ms > alone_ms + MAX_ADDED_MS:
            break
        if figures["unanswered"] or figures["lost_calls"]:
            break
        highest = int(count)
    return highest


@contextlib.asynccontextmanager
async def running_subject(
    name: str, vendors: Mapping[str, Any], *, profile: bool
) -> AsyncIterator[tuple[Subject, Callable[[], Awaitable[Any]]]]:
    """One of `SUBJECTS` as a process, and a function that returns its profile so far."""
    kind, turns = name.split("-")
    with tempfile.TemporaryDirectory(prefix="voicebot-density-") as directory:
        samples = Path(directory) / "samples.json"
        python = [sys.executable, "-m"] + (["bench.sampler", str(samples)] if profile else [])

        async def top() -> Any:
            return json.loads(samples.read_text()) if samples.exists() else None

        if kind == "pipecat":
            command = [*python, "bench.bare_bot", "--vendors", vendors["url"], "--turns", turns]
            async with bench_process(command) as (ready, pid):
                url = ready["url"].replace("http://", "ws://", 1) + "/media"
                settings = CarrierSettings(public_url=PUBLIC_URL, account_sid="bench", auth_token="bench")  # noqa: S106
                yield (
                    Subject(
                        pid=pid, carrier=Carrier(settings, NUMBER, CONVERSATIONS["density"], bare_url=url)
                    ),
                    top,
                )
        else:
            environment = vendor_variables(vendors["url"])
            async with voicebot_server(environment, directory, python) as server:
                await _create_templates(server, turns)
                settings = CarrierSettings(
                    public_url=PUBLIC_URL,
                    server_url=server.url,
                    account_sid=TWILIO_ACCOUNT_SID,
                    auth_token=TWILIO_AUTH_TOKEN,
                )
                yield (
                    Subject(pid=server.pid, carrier=Carrier(settings, NUMBER, CONVERSATIONS["density"])),
                    top,
                )


def vendor_variables(url: str) -> dict[str, str]:
    """The environment variables of a server that uses `bench.light_vendors`."""
    return {
        "OPENAI_API_KEY": "bench", "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_MODEL": "bench",
        "DEEPGRAM_API_KEY": "bench", "DEEPGRAM_URL": url,
        "ELEVENLABS_API_KEY": "bench", "ELEVENLABS_URL": url,
        "TWILIO_ACCOUNT_SID": TWILIO_ACCOUNT_SID, "TWILIO_AUTH_TOKEN": TWILIO_AUTH_TOKEN,
        "TWILIO_API_URL": url,
    }  # fmt: skip


async def _create_templates(server: VoicebotServer, turns: str) -> None:
    common = {"status": "active", "turns": {"strategy": turns}}
    number = await server.create("/numbers", {"e164": NUMBER})
    billing = await server.create(
        "/templates",
        {
            **common,
            "name": "Billing",
            "description": "Billing of Acme.",
            "prompt": "You answer questions about invoices.",
            "tts": {"voice_id": BILLING},
        },
    )
    route = {"name": "billing", "template_id": billing["id"], "when": "The caller asks about an invoice."}
    await server.create(
        "/templates",
        {
            **common,
            "name": "Front desk",
            "description": "Front desk of Acme.",
            "kind": "orchestrator",
            "number_id": number["id"],
            "greeting": {"text": GREETING},
            "prompt": "You are the front desk of Acme.",
            "tts": {"voice_id": FRONT},
            "routes": [route],
        },
    )


@contextlib.asynccontextmanager
async def bench_process(command: Sequence[str]) -> AsyncIterator[tuple[dict[str, Any], int]]:
    """A process that prints one line of JSON when it is ready; yields the line and the process id."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdin=PIPE, stdout=PIPE)
    try:
        if process.stdout is None:
            raise RuntimeError("the process has no standard output")
        yield json.loads(await process.stdout.readline()), process.pid
    finally:
        process.terminate()
        await process.wait()


def main() -> None:
    """Run the bench with the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.density",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--calls", default="1,5,10,20,30,40", help="numbers of concurrent calls to measure")
    parser.add_argument("--subjects", default=",".join(SUBJECTS), help="what is measured")
    parser.add_argument("--window", type=float, default=24.0, help="seconds for which CPU time is measured")
    parser.add_argument("--profile", action="store_true", help="sample the server's main thread")
    options = parser.parse_args()
    levels = [int(count) for count in options.calls.split(",")]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        measuring = measure(options.subjects.split(","), levels, options.window, options.profile)
        print(json.dumps(runner.run(measuring), indent=2))


if __name__ == "__main__":
    main()
