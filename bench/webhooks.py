"""Webhooks of new calls beside live calls: ``python -m bench.webhooks --calls 20 --rate 100``.

Live calls converse as in `bench.density`, with light vendors and callers. Beside them the carrier sends voice
webhooks of new calls at a constant rate: each creates a call and a lead, and is answered with a token. The
media streams of these calls never open. Requests are sent when they are due, however many are not answered
yet, and are signed before the measurement.

- ``webhook_ms``: from the time at which a request was due to the end of its answer, beside the live calls;
  ``alone_ms``: the same without live calls;
- ``sender_late_ms``: how late requests were sent; above 10 at p99 the machine was overloaded;
- ``late_percent``: audio of the live calls that came more than 20 ms late, during the webhooks;
- ``cpu_ms_a_webhook``: CPU time of the server for one webhook, without live calls.

The result is JSON on standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import uvloop

from bench.conversations import CONVERSATIONS, FRONT
from bench.density import GREETING, RAMP_S, Subject, bench_process, vendor_variables
from bench.environment import NUMBER, PUBLIC_URL, VoicebotServer, voicebot_server
from bench.light_callers import Carrier, LightCall, converse
from bench.report import percentiles
from voicebot.sandbox.carrier import CarrierSettings
from voicebot.sandbox.carrier.model import new_sid
from voicebot.sandbox.carrier.webhooks import Webhooks, call_params
from voicebot.sandbox.environment import TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN

CONNECTIONS = 20
_FIRST_CALLER = 14155560000


async def measure(calls: int, rate: float, seconds: float) -> Mapping[str, Any]:
    """Send ``rate`` webhooks a second for ``seconds``, first alone, then beside ``calls`` calls."""
    async with contextlib.AsyncExitStack() as stack:
        vendors = await stack.enter_async_context(
            bench_process([sys.executable, "-m", "bench.light_vendors"])
        )
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="voicebot-webhooks-"))
        # The machine's other load must not decide how many calls are admitted.
        variables = vendor_variables(vendors[0]["url"]) | {"VOICEBOT_MAX_LAG_MS": "0"}
        server = await stack.enter_async_context(voicebot_server(variables, directory))
        await _create_template(server)
        settings = CarrierSettings(
            public_url=PUBLIC_URL,
            server_url=server.url,
            account_sid=TWILIO_ACCOUNT_SID,
            auth_token=TWILIO_AUTH_TOKEN,
        )
        subject = Subject(pid=server.pid, carrier=Carrier(settings, NUMBER, CONVERSATIONS["density"]))
        stack.push_async_callback(subject.carrier.close)
        await _send(settings, rate, 1.0)  # what only the first ones pay
        cpu_s = subject.cpu_s()
        alone = await _send(settings, rate, seconds)
        cpu_ms = 1000 * (subject.cpu_s() - cpu_s) / (rate * seconds)
        beside, late_percent = await _beside_calls(subject.carrier, settings, calls, rate, seconds)
    return {
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "calls": calls,
        "rate": rate,
        "alone_ms": alone["webhook_ms"],
        "cpu_ms_a_webhook": round(cpu_ms, 2),
        **beside,
        "late_percent": late_percent,
    }


async def _beside_calls(
    carrier: Carrier, settings: CarrierSettings, count: int, rate: float, seconds: float
) -> tuple[Mapping[str, Any], float]:
    running: set[asyncio.Task[None]] = set()
    calls = await converse(carrier, count, RAMP_S, running) if count else []
    before = _late_and_all_s(calls)
    sent = await _send(settings, rate, seconds)
    after = _late_and_all_s(calls)
    for call in calls:
        call.hangs_up.set()
    await asyncio.gather(*running)
    audio_s = after[1] - before[1]
    return sent, round(100 * (after[0] - before[0]) / audio_s, 3) if audio_s else 0.0


def _late_and_all_s(calls: Sequence[LightCall]) -> tuple[float, float]:
    return sum(call.figures.late_s for call in calls), sum(call.figures.audio_s for call in calls)


async def _send(settings: CarrierSettings, rate: float, seconds: float) -> Mapping[str, Any]:
    """Send webhooks and return their times."""
    webhooks = Webhooks(settings)
    url = settings.public_url + settings.voice_path
    address, forwarded = webhooks.reach(url)
    requests = []
    for index in range(round(rate * seconds)):
        form = call_params(
            sid=new_sid("CA"),
            account_sid=settings.account_sid,
            from_=f"+{_FIRST_CALLER + index}",
            to=NUMBER,
            status="ringing",
            direction="inbound",
        )
        requests.append((form, {**forwarded, "X-Twilio-Signature": webhooks.signature(url, form)}))
    await webhooks.aclose()
    loop = asyncio.get_running_loop()
    took_ms: list[float] = []
    late_ms: list[float] = []

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:

        async def post(form: Mapping[str, str], headers: Mapping[str, str], due: float) -> None:
            late_ms.append(1000 * (loop.time() - due))
            async with session.post(address, data=form, headers=headers) as answer:
                body = await answer.text()
            took_ms.append(1000 * (loop.time() - due))
            if "<Stream" not in body:
                raise RuntimeError(f"a webhook was answered {answer.status}: {body[:200]}")

        due = loop.time()
        async with asyncio.TaskGroup() as tasks:
            for form, headers in requests:
                await asyncio.sleep(max(0.0, due - loop.time()))
                tasks.create_task(post(form, headers, due))
                due += 1 / rate
    return {"webhook_ms": percentiles(took_ms), "sender_late_ms": percentiles(late_ms)}


async def _create_template(server: VoicebotServer) -> None:
    number = await server.create("/numbers", {"e164": NUMBER})
    desk = await server.create(
        "/templates",
        {
            "name": "Front desk",
            "status": "active",
            "kind": "agent",
            "description": "Front desk of Acme.",
            "prompt": "You are the front desk of Acme.",
        },
    )
    await server.create(
        "/templates",
        {
            "name": "Orchestrator",
            "status": "active",
            "kind": "orchestrator",
            "turns": {"strategy": "stt"},
            "number_id": number["id"],
            "greeting": {"text": GREETING},
            "prompt": "You answer the telephone of Acme.",
            "tts": {"voice_id": FRONT},
            "routes": [{"name": "desk", "template_id": desk["id"], "when": "The caller asks."}],
        },
    )


def main() -> None:
    """Run the bench with the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.webhooks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--calls", type=int, default=20, help="live calls beside the webhooks")
    parser.add_argument("--rate", type=float, default=100.0, help="webhooks a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long they are sent, twice")
    options = parser.parse_args()
    print(json.dumps(uvloop.run(measure(options.calls, options.rate, options.seconds))))


if __name__ == "__main__":
    main()
