"""How a server keeps up with calls at once: `python -m bench.load --steps 1,5,10`.

For each number of calls at once, in ms:

- first_word: from the answer to the first audio of the greeting;
- event_loop: how long the server takes to answer /healthz, asked every 20 ms over one connection while the
  calls last: whatever holds the event loop up holds this up by as much;
- ordinary_turn: from the end of the caller's speech to the answer;

and `stutters`, how often a piece of audio came too late to join the one before it. JSON on standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from contextlib import suppress

import httpx

from bench.listening import Heard, Missing
from bench.scene import ASKS_HOURS, ORDINARY, PHRASES, SILENT, WANTS_BILLING, author
from bench.world import SETTLED_S, World, percentiles, world
from voicebot.sandbox.caller import HangUp, Listen, Say, Step
from voicebot.sandbox.carrier import Call

_EVERY_S = 0.02
_APART_S = 0.15
_IDLE_S = 2.0
_SCRIPT: tuple[Step, ...] = (
    Listen(),
    Say(text=ASKS_HOURS),
    Listen(),
    Say(text=WANTS_BILLING),
    Listen(),
    HangUp(),
)


async def measure(steps: list[int]) -> dict[str, object]:
    """Take the figures for each number of calls at once, and for none."""
    async with world(PHRASES) as stage:
        await author(stage)
        await asyncio.sleep(SETTLED_S)
        idle: list[float] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(_IDLE_S):
                await _probe(stage, idle)
        by_step = {}
        missing: list[str] = []
        for step in steps:
            by_step[str(step)] = await _step(stage, step, missing)
            await asyncio.sleep(SETTLED_S)
    return {"idle_event_loop_ms": percentiles(idle), "calls_at_once": by_step, "missing": missing}


async def _step(stage: World, at_once: int, missing: list[str]) -> dict[str, object]:
    held: list[float] = []
    probe = asyncio.create_task(_probe(stage, held))
    calls = await asyncio.gather(*(_one(stage, number, missing) for number in range(at_once)))
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    first, ordinary = [], []
    for call in calls:
        try:
            first.append(_first_word_ms(call))
            questions = [ORDINARY.asked, SILENT.asked]
            ordinary.append(Heard(call).wait_ms(ORDINARY, questions))
        except Missing as error:
            missing.append(f"{at_once} at once: {error}; {await stage.said(call)}")
    return {
        "first_word_ms": percentiles(first) if first else None,
        "ordinary_turn_ms": percentiles(ordinary) if ordinary else None,
        "event_loop_ms": percentiles(held),
        "stutters": sum(call.line.heard.hiccups for call in calls),
        "carrier_late_p95_ms": round(max(call.line.lateness().p95_ms for call in calls), 1),
    }


async def _one(stage: World, number: int, missing: list[str]) -> Call:
    await asyncio.sleep(number * _APART_S)
    call, person = stage.place(_SCRIPT, number)
    await call.ended()
    if not person.outcome.ok or call.complaints:
        missing.append(f"{person.outcome.failure} {call.complaints}")
    return call


def _first_word_ms(call: Call) -> float:
    for event in call.events:
        if event.name == "media.first":
            return float(str(event.data["start_ms"]))
    raise Missing("the first word")


async def _probe(stage: World, held: list[float]) -> None:
    """Ask again and again, at a steady pace, until cancelled."""
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient(base_url=stage.url, timeout=30) as client:
        await client.get("/healthz")
        while True:
            began = loop.time()
            await client.get("/healthz")
            taken = loop.time() - began
            held.append(taken * 1000)
            await asyncio.sleep(max(0.0, _EVERY_S - taken))


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--steps", default="1,5,10", help="calls at once, one number after the other")
    options = parser.parse_args()
    result = asyncio.run(measure([int(step) for step in options.steps.split(",")]))
    print(json.dumps(result, indent=2))
    sys.exit(1 if result["missing"] else 0)


if __name__ == "__main__":
    main()
