"""What changing the agent costs a caller, measured from audio at the carrier: `python -m bench.route`.

Every call has an ordinary turn, a silent route, an announced route and a route to a ready greeting. In ms:

- silent: from the end of the caller's speech to the target's first audio, minus the same of the ordinary turn
  of that call, minus one first-token time of the model (the route takes two of its answers);
- announced: from the end of the farewell in the old voice to the target's first audio;
- greeting: from the end of the caller's speech to the greeting, minus the same of the ordinary turn.

The result is JSON on standard output. It ends with status 1 when a sample is missing.
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

from bench.listening import Heard, Missing
from bench.scene import GREETED, ORDINARY, PHRASES, SCRIPT, SILENT, author
from bench.world import SETTLED_S, World, percentiles, world
from voicebot.sandbox import wav
from voicebot.sandbox.caller import Say
from voicebot.sandbox.carrier import Call

_PROBES = 20


@dataclass(slots=True, kw_only=True)
class Samples:
    """The figures of all calls, in ms; `missing` says what could not be measured."""

    ordinary: list[float] = field(default_factory=list)
    silent: list[float] = field(default_factory=list)
    announced: list[float] = field(default_factory=list)
    greeting: list[float] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


async def measure(calls: int, at_once: int, keep: Path | None = None) -> dict[str, object]:
    """Place `calls` calls, `at_once` at a time, and sum them up; `keep` is where recordings go."""
    samples = Samples()
    hiccups, late_ms = 0, [0.0]
    async with world(PHRASES) as stage:
        await author(stage)
        await asyncio.sleep(SETTLED_S)  # greetings are made when a template is activated
        first_token_ms = statistics.median([await stage.first_token_ms() for _ in range(_PROBES)])
        placed: list[Call] = []
        limit = asyncio.Semaphore(at_once)
        await _all(_one(stage, number, limit, placed, samples) for number in range(calls))
        await asyncio.sleep(SETTLED_S)
        for number, call in enumerate(placed):
            hiccups += call.line.heard.hiccups
            late_ms.append(call.line.lateness().p95_ms)
            if keep is not None:
                wav.write(keep / f"call-{number}.wav", call.recording())
            try:
                _take(call, first_token_ms, samples)
            except Missing as error:
                samples.missing.append(f"call {number}: {error}; {await stage.said(call)}")
    return {
        "calls": calls,
        "at_once": at_once,
        "first_token_ms": round(first_token_ms, 1),
        "ordinary_turn_ms": _summary(samples.ordinary),
        "silent_route_ms": _summary(samples.silent),
        "announced_route_ms": _summary(samples.announced),
        "ready_greeting_minus_ordinary_turn_ms": _summary(samples.greeting),
        "stutters": hiccups,
        "carrier_late_p95_ms": round(max(late_ms), 1),
        "missing": samples.missing,
    }


async def _all(work: Iterable[Awaitable[None]]) -> None:
    await asyncio.gather(*work)


async def _one(
    stage: World, number: int, limit: asyncio.Semaphore, placed: list[Call], samples: Samples
) -> None:
    async with limit:
        await asyncio.sleep(number % 7 * 0.13)  # callers do not dial in the same instant
        call, person = stage.place(SCRIPT, number)
        await call.ended()
        placed.append(call)
        if not person.outcome.ok or call.complaints:
            samples.missing.append(f"call {number}: {person.outcome.failure} {call.complaints}")


def _take(call: Call, first_token_ms: float, samples: Samples) -> None:
    heard = Heard(call)
    questions = [step.text for step in SCRIPT if isinstance(step, Say)]
    ordinary = heard.wait_ms(ORDINARY, questions)
    silent = heard.wait_ms(SILENT, questions)
    greeting = heard.wait_ms(GREETED, questions)
    announced = heard.announced_ms(questions)
    samples.ordinary.append(ordinary)
    samples.silent.append(silent - ordinary - first_token_ms)
    samples.greeting.append(greeting - ordinary)
    samples.announced.append(announced)


def _summary(figures: list[float]) -> dict[str, float] | None:
    return percentiles(figures) if figures else None


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bench.route", description=__doc__)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--keep", type=Path, help="a directory for the calls' recordings")
    options = parser.parse_args()
    result = asyncio.run(measure(options.calls, options.at_once, options.keep))
    print(json.dumps(result, indent=2))
    sys.exit(1 if result["missing"] else 0)


if __name__ == "__main__":
    main()
