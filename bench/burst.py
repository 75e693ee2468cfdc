"""Calls that begin at the same moment: ``python -m bench.burst --calls 20 --beside 4``.

``--beside`` calls converse as in `bench.density`. Then ``--calls`` calls are answered within one second, and
this is repeated ``--rounds`` times. For each subject:

- ``first_word_ms``: from the start of the stream to the first sound, of the calls that begin;
- ``webhook_ms``: the answer to their voice webhook;
- ``worst_delay_ms``: the largest delay of audio of the other calls, beyond what the caller's buffer held;
- ``late``: how many of their messages were more than 20 ms late;
- ``caller_tick_late_ms``: the largest delay of this process; above 20 the machine was overloaded.

The result is JSON on standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

import uvloop

from bench.density import RAMP_S, SETTLE_S, SUBJECTS, Subject, bench_process, machine, running_subject
from bench.light_callers import LightCall, converse
from bench.report import percentiles

BURST_S = 1.0
AFTER_S = 5.0


async def measure(subjects: Sequence[str], calls: int, beside: int, rounds: int) -> dict[str, Any]:
    """Measure every subject."""
    results = {}
    async with bench_process([sys.executable, "-m", "bench.light_vendors"]) as (vendors, _):
        for name in subjects:
            async with running_subject(name, vendors, profile=False) as (subject, _):
                results[name] = await _rounds(subject, calls, beside, rounds)
    return {"machine": machine(), "subjects": results}


async def _rounds(subject: Subject, calls: int, beside: int, rounds: int) -> dict[str, Any]:
    talking: set[asyncio.Task[None]] = set()
    others = await converse(subject.carrier, beside, RAMP_S, talking)
    await asyncio.sleep(AFTER_S)
    begun: list[LightCall] = []
    for other in others:
        other.figures.gaps, other.figures.worst_gap_s = 0, 0.0
    for number in range(rounds):
        running: set[asyncio.Task[None]] = set()
        burst = await converse(subject.carrier, calls, BURST_S, running, first=beside + number * calls)
        await asyncio.sleep(AFTER_S)
        await _hang_up(burst, running)
        begun += burst
    await _hang_up(others, talking)
    first_words = [
        1000 * call.figures.first_audio_s for call in begun if call.figures.first_audio_s is not None
    ]
    return {
        "first_word_ms": percentiles(first_words) if first_words else None,
        "without_first_word": len(begun) - len(first_words),
        "webhook_ms": percentiles([1000 * call.figures.webhook_s for call in begun]),
        "worst_delay_ms": round(1000 * max(call.figures.worst_gap_s for call in others), 1),
        "late": sum(call.figures.gaps for call in others),
        "caller_tick_late_ms": round(1000 * max(call.figures.tick_late_s for call in [*begun, *others]), 1),
    }


async def _hang_up(calls: Sequence[LightCall], running: set[asyncio.Task[None]]) -> None:
    for call in calls:
        call.hangs_up.set()
    await asyncio.gather(*running)
    await asyncio.sleep(SETTLE_S)


def main() -> None:
    """Run the bench with the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.burst",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--calls", type=int, default=20, help="calls answered within one second")
    parser.add_argument("--beside", type=int, default=4, help="calls that are active already")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--subjects", default=",".join(SUBJECTS), help="what is measured")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        measuring = measure(options.subjects.split(","), options.calls, options.beside, options.rounds)
        print(json.dumps(runner.run(measuring), indent=2))


if __name__ == "__main__":
    main()
