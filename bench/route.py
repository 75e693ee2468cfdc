"""Latency of a route, measured from the audio at the carrier: ``python -m bench.route``.

Every call has an ordinary turn, a silent route, an announced route and a route to a prepared greeting.
Vendors and callers are those of `bench.density`; every agent speaks a tone of its own. In ms:

By default the calls of both carriers are measured in one run (``--carrier``).

- ``ordinary_turn_ms``: from the end of the caller's speech to the first sound of the answer;
- ``silent_route_ms``: the same for a turn with a silent route, minus the ordinary turn of that call, minus
  one first-token time of the model (a route takes two of its answers);
- ``announced_route_ms``: from the end of the announcement in the old voice to the first audio of the target;
- ``greeting_route_ms``: from the end of the caller's speech to the greeting, minus the ordinary turn of the
  same call;
- ``caller_tick_late_ms``: the largest delay of the callers' process (above 20 the machine was overloaded).

``audio_gaps`` is the number of messages that came more than 20 ms after the caller's buffer had run empty.
The result is JSON on standard output, with the figures of each carrier by its name. The exit status is 1 when
a sample is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop

from bench.conversations import (
    ASK_BILLING,
    ASK_HOURS,
    ASK_RETURNS,
    ASK_WORKSHOP,
    BILLING,
    FRONT,
    RETURNS,
    WORKSHOP,
)
from bench.density import machine
from bench.environment import SETTLE_S
from bench.light_callers import Figures, LightCall
from bench.light_vendors import FIRST_TOKEN_S
from bench.report import percentiles
from bench.scenario import running_scenario

CARRIERS = ("twilio", "exotel")
"""Exotel takes pieces of 200 ms, Twilio gets 40 ms: what that costs is the difference of their turns."""


class MissingSample(Exception):
    """The call lacks what a figure is taken from; the message says what."""


@dataclass(slots=True, kw_only=True)
class Samples:
    """The figures of all calls, in ms; ``missing`` says what could not be measured."""

    ordinary: list[float] = field(default_factory=list)
    silent: list[float] = field(default_factory=list)
    announced: list[float] = field(default_factory=list)
    greeting: list[float] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def add(self, figures: Figures) -> None:
        """Add the samples of one call.

        Raises:
            MissingSample: one of them is missing; then none is added.
        """
        ordinary = answer_ms(figures, ASK_HOURS, FRONT)
        silent = answer_ms(figures, ASK_BILLING, BILLING) - ordinary - 1000 * FIRST_TOKEN_S
        greeting = answer_ms(figures, ASK_RETURNS, RETURNS) - ordinary
        self.announced.append(announced_ms(figures))
        self.ordinary.append(ordinary)
        self.silent.append(silent)
        self.greeting.append(greeting)


async def measure_all(calls: int, concurrency: int, carriers: Sequence[str]) -> dict[str, object]:
    """Measure carriers one after another on this machine."""
    result: dict[str, object] = {"machine": machine(), "calls": calls, "concurrency": concurrency}
    return result | {name: await measure(calls, concurrency, name) for name in carriers}


async def measure(calls: int, concurrency: int, carrier_name: str) -> dict[str, object]:
    """Place ``calls`` calls of a carrier, ``concurrency`` at a time, and summarise them."""
    samples = Samples()
    limit = asyncio.Semaphore(concurrency)
    async with running_scenario(carrier_name=carrier_name) as scenario:
        await asyncio.sleep(SETTLE_S)  # greetings are synthesised when a template is activated

        async def place(number: int) -> LightCall:
            async with limit:
                await asyncio.sleep(
                    number % 7 * 0.13
                )  # spreads the starts of calls that run at the same time
                call = await scenario.carrier.place(number)
                await call.run()
                return call

        placed = await asyncio.gather(*(place(number) for number in range(calls)))
    for number, call in enumerate(placed):
        try:
            samples.add(call.figures)
        except MissingSample as error:
            samples.missing.append(f"call {number}: {error}")
    return {
        "ordinary_turn_ms": _summary(samples.ordinary),
        "silent_route_ms": _summary(samples.silent),
        "announced_route_ms": _summary(samples.announced),
        "greeting_route_ms": _summary(samples.greeting),
        "audio_gaps": sum(call.figures.gaps for call in placed),
        "caller_tick_late_ms": round(1000 * max(call.figures.tick_late_s for call in placed), 1),
        "missing": samples.missing,
    }


def answer_ms(figures: Figures, question: str, voice: str) -> float:
    """Time from the end of the question to the first sound of the answer, in ms.

    Raises:
        MissingSample: there is no answer, or it is in another voice.
    """
    answer = next((answer for answer in figures.answers if answer.question == question), None)
    if answer is None or answer.after_s is None:
        raise MissingSample(f"no answer to {question!r}")
    if answer.voice != voice:
        raise MissingSample(f"the answer to {question!r} is in {answer.voice}")
    return 1000 * answer.after_s


def announced_ms(figures: Figures) -> float:
    """Time from the last sound of the announcement to the first sound of the target, in ms.

    Raises:
        MissingSample: the announcement or the target was not heard.
    """
    answer = next((answer for answer in figures.answers if answer.question == ASK_WORKSHOP), None)
    if answer is None or answer.asked_s is None:
        raise MissingSample("no announcement")
    after = [sound for sound in figures.sounds if sound.begins_s >= answer.asked_s]
    pairs = itertools.pairwise(after)
    announced = next((pair for pair in pairs if pair[1].voice == WORKSHOP), None)
    if announced is None or announced[0].voice != FRONT:
        raise MissingSample(f"after {ASK_WORKSHOP!r} there is {[sound.voice for sound in after[:3]]}")
    return 1000 * (announced[1].begins_s - announced[0].ends_s)


def _summary(samples: Sequence[float]) -> dict[str, float] | None:
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
    parser.add_argument("--carrier", choices=[*CARRIERS, "both"], default="both")
    options = parser.parse_args()
    carriers = CARRIERS if options.carrier == "both" else (options.carrier,)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(measure_all(options.calls, options.concurrency, carriers))
    print(json.dumps(result, indent=2))
    sys.exit(1 if any(cast("Any", result[name])["missing"] for name in carriers) else 0)


if __name__ == "__main__":
    main()
