"""Latency with several calls at once: ``python -m bench.load --concurrency 1,5,10``.

Vendors and callers are those of `bench.density`. For each number of concurrent calls, the output has, in ms:

- ``first_audio_ms``: from the start of the stream to the first audio of the greeting;
- ``ordinary_turn_ms``: from the end of the caller's speech to the first sound of the answer;
- ``healthz_ms``: the response time of ``/healthz``, requested every 20 ms on one connection during the calls;
  it rises with every delay of the server's event loop;
- ``caller_tick_late_ms``: the largest delay of the callers' process (above 20 the machine was overloaded);

and ``audio_gaps``, the number of messages that came more than 20 ms after the caller's buffer had run empty.
The result is JSON on standard output. The exit status is 1 when a sample is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from contextlib import suppress

import httpx
import uvloop

from bench.conversations import ASK_HOURS, FRONT
from bench.density import machine
from bench.environment import SETTLE_S
from bench.light_callers import LightCall
from bench.report import percentiles
from bench.route import MissingSample, answer_ms
from bench.scenario import Scenario, running_scenario

_PROBE_INTERVAL_S = 0.02
_CALL_INTERVAL_S = 0.15
_IDLE_S = 2.0


async def measure(concurrency: list[int]) -> dict[str, object]:
    """Measure an idle server, then each number of concurrent calls."""
    async with running_scenario("two turns") as scenario:
        await asyncio.sleep(SETTLE_S)
        idle: list[float] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(_IDLE_S):
                await _probe(scenario, idle)
        results = {}
        missing: list[str] = []
        for calls in concurrency:
            results[str(calls)] = await _measure_concurrent(scenario, calls, missing)
            await asyncio.sleep(SETTLE_S)
    return {
        "machine": machine(),
        "idle_healthz_ms": percentiles(idle),
        "concurrent_calls": results,
        "missing": missing,
    }


async def _measure_concurrent(scenario: Scenario, count: int, missing: list[str]) -> dict[str, object]:
    healthz: list[float] = []
    probe = asyncio.create_task(_probe(scenario, healthz))
    calls = await asyncio.gather(*(_place_call(scenario, number) for number in range(count)))
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    first_audio, turns = [], []
    for call in calls:
        figures = call.figures
        try:
            turns.append(answer_ms(figures, ASK_HOURS, FRONT))
        except MissingSample as error:
            missing.append(f"{count} concurrent calls: {error}")
        if figures.first_audio_s is not None:
            first_audio.append(1000 * figures.first_audio_s)
    return {
        "first_audio_ms": percentiles(first_audio) if first_audio else None,
        "ordinary_turn_ms": percentiles(turns) if turns else None,
        "healthz_ms": percentiles(healthz),
        "audio_gaps": sum(call.figures.gaps for call in calls),
        "caller_tick_late_ms": round(1000 * max(call.figures.tick_late_s for call in calls), 1),
    }


async def _place_call(scenario: Scenario, number: int) -> LightCall:
    """One call of two turns, which ends by itself."""
    await asyncio.sleep(number * _CALL_INTERVAL_S)
    call = await scenario.carrier.place(number)
    await call.run()
    return call


async def _probe(scenario: Scenario, samples: list[float]) -> None:
    """Request ``/healthz`` at a fixed interval and append the response times in ms, until cancelled."""
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient(base_url=scenario.server.url, timeout=30) as client:
        await client.get("/healthz")
        while True:
            started = loop.time()
            await client.get("/healthz")
            elapsed = loop.time() - started
            samples.append(elapsed * 1000)
            await asyncio.sleep(max(0.0, _PROBE_INTERVAL_S - elapsed))


def main() -> None:
    """Run the bench with the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--concurrency", default="1,5,10", help="numbers of concurrent calls to measure")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(measure([int(calls) for calls in options.concurrency.split(",")]))
    print(json.dumps(result, indent=2))
    sys.exit(1 if result["missing"] else 0)


if __name__ == "__main__":
    main()
