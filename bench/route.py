"""Latency of a route, measured from the audio at the carrier: ``python -m bench.route``.

Every call has an ordinary turn, a silent route, an announced route and a route to a prepared greeting. In ms:

- ``ordinary_turn_ms``: from the end of the caller's speech to the first sound of the answer;
- ``silent_route_ms``: the same for a turn with a silent route, minus the ordinary turn of that call, minus
  one first-token time of the model (a route takes two of its answers);
- ``announced_route_ms``: from the end of the announcement in the old voice to the first audio of the target;
- ``greeting_route_ms``: from the end of the caller's speech to the greeting, minus the ordinary turn of the
  same call;
- ``carrier_lateness_p95_ms``: how late the simulated carrier sent its own audio (a high value means that the
  machine was overloaded).

``audio_gaps`` is the number of gaps of less than 100 ms between two audio messages.
The result is JSON on standard output. The exit status is 1 when a sample is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bench.environment import SETTLE_S, BenchEnvironment, bench_environment
from bench.recordings import CallRecording, MissingSample
from bench.report import percentiles
from bench.scenario import GREETING_ROUTE, ORDINARY_TURN, PHRASES, SCRIPT, SILENT_ROUTE, create_templates
from voicebot.sandbox.audio import wav
from voicebot.sandbox.caller import Say
from voicebot.sandbox.carrier import Call

_PROBES = 20


@dataclass(slots=True, kw_only=True)
class Samples:
    """The figures of all calls, in ms; ``missing`` says what could not be measured."""

    ordinary: list[float] = field(default_factory=list)
    silent: list[float] = field(default_factory=list)
    announced: list[float] = field(default_factory=list)
    greeting: list[float] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


async def measure(calls: int, concurrency: int, keep: Path | None = None) -> dict[str, object]:
    """Place ``calls`` calls, ``concurrency`` at a time, and summarise them.

    Args:
        calls: how many calls to place.
        concurrency: how many calls to have at the same time.
        keep: a directory for the recordings; None: they are not kept.
    """
    samples = Samples()
    audio_gaps, lateness_ms = 0, [0.0]
    async with bench_environment(PHRASES) as environment:
        await create_templates(environment)
        await asyncio.sleep(SETTLE_S)  # greetings are synthesised when a template is activated
        first_token_ms = statistics.median([await environment.llm_first_token_ms() for _ in range(_PROBES)])
        placed: list[Call] = []
        limit = asyncio.Semaphore(concurrency)
        await _all(_place_call(environment, number, limit, placed, samples) for number in range(calls))
        await asyncio.sleep(SETTLE_S)
        for number, call in enumerate(placed):
            audio_gaps += call.line.heard.hiccups
            lateness_ms.append(call.line.lateness().p95_ms)
            if keep is not None:
                wav.write(keep / f"call-{number}.wav", call.recording())
            try:
                _add_samples(call, first_token_ms, samples)
            except MissingSample as error:
                samples.missing.append(f"call {number}: {error}; {await environment.transcript(call)}")
    return {
        "calls": calls,
        "concurrency": concurrency,
        "llm_first_token_ms": round(first_token_ms, 1),
        "ordinary_turn_ms": _summary(samples.ordinary),
        "silent_route_ms": _summary(samples.silent),
        "announced_route_ms": _summary(samples.announced),
        "greeting_route_ms": _summary(samples.greeting),
        "audio_gaps": audio_gaps,
        "carrier_lateness_p95_ms": round(max(lateness_ms), 1),
        "missing": samples.missing,
    }


async def _all(tasks: Iterable[Awaitable[None]]) -> None:
    await asyncio.gather(*tasks)


async def _place_call(
    environment: BenchEnvironment, number: int, limit: asyncio.Semaphore, placed: list[Call], samples: Samples
) -> None:
    async with limit:
        await asyncio.sleep(number % 7 * 0.13)  # spreads the starts of calls that run at the same time
        call, caller = environment.place_call(SCRIPT, number)
        await call.ended()
        placed.append(call)
        if not caller.outcome.ok or call.complaints:
            samples.missing.append(f"call {number}: {caller.outcome.failure} {call.complaints}")


def _add_samples(call: Call, first_token_ms: float, samples: Samples) -> None:
    recording = CallRecording(call)
    questions = [step.text for step in SCRIPT if isinstance(step, Say)]
    ordinary = recording.response_ms(ORDINARY_TURN, questions)
    silent = recording.response_ms(SILENT_ROUTE, questions)
    greeting = recording.response_ms(GREETING_ROUTE, questions)
    announced = recording.announced_route_ms(questions)
    samples.ordinary.append(ordinary)
    samples.silent.append(silent - ordinary - first_token_ms)
    samples.greeting.append(greeting - ordinary)
    samples.announced.append(announced)


def _summary(samples: list[float]) -> dict[str, float] | None:
    return percentiles(samples) if samples else None


def main() -> None:
    """Run the bench with the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.route",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--concurrency", type=int, default=4, help="calls at the same time")
    parser.add_argument("--keep", type=Path, help="a directory for the recordings of the calls")
    options = parser.parse_args()
    result = asyncio.run(measure(options.calls, options.concurrency, options.keep))
    print(json.dumps(result, indent=2))
    sys.exit(1 if result["missing"] else 0)


if __name__ == "__main__":
    main()
