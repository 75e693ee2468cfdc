"""Latency with several calls at once: ``python -m bench.load --concurrency 1,5,10``.

For each number of concurrent calls, the output has, in ms:

- ``first_audio_ms``: from the answer of the call to the first audio of the greeting;
- ``ordinary_turn_ms``: from the end of the caller's speech to the first sound of the answer;
- ``healthz_ms``: the response time of ``/healthz``, requested every 20 ms on one connection during the calls;
  it rises with every delay of the server's event loop;
- ``carrier_lateness_p95_ms``: how late the simulated carrier sent its own audio (a high value means that the
  machine was overloaded);

and ``audio_gaps``, the number of gaps of less than 100 ms between two audio messages.
The result is JSON on standard output. The exit status is 1 when a sample is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from contextlib import suppress

import httpx

from bench.environment import SETTLE_S, BenchEnvironment, bench_environment
from bench.recordings import CallRecording, MissingSample
from bench.report import percentiles
from bench.scenario import ASK_BILLING, ASK_HOURS, ORDINARY_TURN, PHRASES, create_templates
from voicebot.sandbox.caller import HangUp, Listen, Say, Step
from voicebot.sandbox.carrier import Call

_PROBE_INTERVAL_S = 0.02
_CALL_INTERVAL_S = 0.15
_IDLE_S = 2.0
_QUESTIONS = (ASK_HOURS, ASK_BILLING)
_SCRIPT: tuple[Step, ...] = (
    Listen(),
    Say(text=ASK_HOURS),
    Listen(),
    Say(text=ASK_BILLING),
    Listen(),
    HangUp(),
)


async def measure(concurrency: list[int]) -> dict[str, object]:
    """Measure an idle server, then each number of concurrent calls."""
    async with bench_environment(PHRASES) as environment:
        await create_templates(environment)
        await asyncio.sleep(SETTLE_S)
        idle: list[float] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(_IDLE_S):
                await _probe(environment, idle)
        results = {}
        missing: list[str] = []
        for calls in concurrency:
            results[str(calls)] = await _measure_concurrent(environment, calls, missing)
            await asyncio.sleep(SETTLE_S)
    return {"idle_healthz_ms": percentiles(idle), "concurrent_calls": results, "missing": missing}


async def _measure_concurrent(
    environment: BenchEnvironment, count: int, missing: list[str]
) -> dict[str, object]:
    healthz: list[float] = []
    probe = asyncio.create_task(_probe(environment, healthz))
    calls = await asyncio.gather(*(_place_call(environment, number, missing) for number in range(count)))
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    first_audio, turns = [], []
    for call in calls:
        try:
            first_audio.append(_first_audio_ms(call))
            turns.append(CallRecording(call).response_ms(ORDINARY_TURN, _QUESTIONS))
        except MissingSample as error:
            missing.append(f"{count} concurrent calls: {error}; {await environment.transcript(call)}")
    return {
        "first_audio_ms": percentiles(first_audio) if first_audio else None,
        "ordinary_turn_ms": percentiles(turns) if turns else None,
        "healthz_ms": percentiles(healthz),
        "audio_gaps": sum(call.line.heard.hiccups for call in calls),
        "carrier_lateness_p95_ms": round(max(call.line.lateness().p95_ms for call in calls), 1),
    }


async def _place_call(environment: BenchEnvironment, number: int, missing: list[str]) -> Call:
    await asyncio.sleep(number * _CALL_INTERVAL_S)
    call, caller = environment.place_call(_SCRIPT, number)
    await call.ended()
    if not caller.outcome.ok or call.complaints:
        missing.append(f"{caller.outcome.failure} {call.complaints}")
    return call


def _first_audio_ms(call: Call) -> float:
    for event in call.events:
        if event.name == "media.first":
            return float(str(event.data["start_ms"]))
    raise MissingSample("the first audio")


async def _probe(environment: BenchEnvironment, samples: list[float]) -> None:
    """Request ``/healthz`` at a fixed interval and append the response times in ms, until cancelled."""
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient(base_url=environment.url, timeout=30) as client:
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
    result = asyncio.run(measure([int(calls) for calls in options.concurrency.split(",")]))
    print(json.dumps(result, indent=2))
    sys.exit(1 if result["missing"] else 0)


if __name__ == "__main__":
    main()
