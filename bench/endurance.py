"""Memory over many calls and over a long call: ``python -m bench.endurance --calls 500 --minutes 10``.

The server, vendors and callers are those of `bench.density`.

- ``many_calls``: ``--calls`` calls of some seconds one after another, ``--concurrency`` at a time. The
  resident set of the server is read after every tenth of them, when no call is active. ``kb_a_call`` is the
  growth from the fifth reading to the last: the first calls fill caches and the allocator.
- ``long_call``: one call of ``--minutes`` that converses all the time. The resident set is read every tenth
  of that time. ``kb_a_minute`` is the growth from the fifth reading to the last, with the conversation's.

The result is JSON on standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

import uvloop

from bench.density import SETTLE_S, Subject, bench_process, machine, running_subject
from bench.light_callers import LightCall

READINGS = 10
SKIPPED = 4
CALL_S = 3.0


async def measure(subject_name: str, calls: int, concurrency: int, minutes: float) -> dict[str, Any]:
    """Measure one of `bench.density.SUBJECTS`."""
    async with (
        bench_process([sys.executable, "-m", "bench.light_vendors"]) as (vendors, _),
        running_subject(subject_name, vendors, profile=False) as (subject, _),
    ):
        many = await _many_calls(subject, calls, concurrency)
        long = await _long_call(subject, minutes) if minutes else None
    return {"machine": machine(), "subject": subject_name, "many_calls": many, "long_call": long}


async def _many_calls(subject: Subject, calls: int, concurrency: int) -> dict[str, Any]:
    limit, readings = asyncio.Semaphore(concurrency), []
    step = max(1, calls // READINGS)
    lost = 0
    for first in range(0, calls, step):
        ended = await asyncio.gather(
            *(_short_call(subject, number, limit) for number in range(first, first + step))
        )
        lost += sum(call.figures.lost or call.figures.first_audio_s is None for call in ended)
        await asyncio.sleep(SETTLE_S)
        readings.append(round(subject.memory_mb(), 1))
    growth_mb = readings[-1] - readings[SKIPPED] if len(readings) > SKIPPED else 0.0
    counted = step * max(1, len(readings) - SKIPPED - 1)
    return {
        "calls": calls,
        "lost": lost,
        "memory_mb": readings,
        "kb_a_call": round(1000 * growth_mb / counted, 1),
    }


async def _short_call(subject: Subject, number: int, limit: asyncio.Semaphore) -> LightCall:
    async with limit:
        call = await subject.carrier.place(number)
        running = asyncio.create_task(call.run())
        await asyncio.sleep(CALL_S)
        call.hangs_up.set()
        await running
        return call


async def _long_call(subject: Subject, minutes: float) -> dict[str, Any]:
    call = await subject.carrier.place(0)
    running = asyncio.create_task(call.run())
    readings = []
    for _ in range(READINGS):
        await asyncio.sleep(60 * minutes / READINGS)
        readings.append(round(subject.memory_mb(), 1))
    call.hangs_up.set()
    await running
    grown_minutes = minutes * (READINGS - SKIPPED - 1) / READINGS
    return {
        "minutes": minutes,
        "lost": call.figures.lost,
        "answers": len(call.figures.answers),
        "memory_mb": readings,
        "kb_a_minute": round(1000 * (readings[-1] - readings[SKIPPED]) / grown_minutes, 1),
    }


def main() -> None:
    """Run the bench with the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.endurance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--subject", default="voicebot-stt", help="what is measured")
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--concurrency", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=10.0, help="the length of the long call; 0: none")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        measuring = measure(options.subject, options.calls, options.concurrency, options.minutes)
        print(json.dumps(runner.run(measuring), indent=2))


if __name__ == "__main__":
    main()
