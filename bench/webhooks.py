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

With ``--status`` they are status callbacks instead: four of each call, each of them twice, in any order
within two seconds, so that in every second about half of them are duplicates. At the end every call must have
ended as its carrier said.

The result is JSON on standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import uvloop

from bench.conversations import CONVERSATIONS, FRONT
from bench.density import GREETING, RAMP_S, Subject, bench_process, vendor_variables
from bench.environment import NUMBER, PUBLIC_URL, VoicebotServer, voicebot_server
from bench.light_callers import Carrier, LightCall, converse
from bench.report import percentiles
from bench.webhook_client import Sender, request_bytes
from voicebot.sandbox.carrier import CarrierSettings
from voicebot.sandbox.carrier.model import new_sid
from voicebot.sandbox.carrier.webhooks import Webhooks, call_params
from voicebot.sandbox.environment import TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN

STATUSES = ("initiated", "ringing", "in-progress", "completed")
DISORDER_S = 2.0
"""How long before or after another callback of its call one may come, in seconds."""
_SETUP_RATE = 100.0
_FIRST_CALLER = 14155560000


async def measure(
    calls: int, rate: float, seconds: float, *, statuses: bool, workers: int = 1
) -> Mapping[str, Any]:
    """Send ``rate`` webhooks a second for ``seconds``, first alone, then beside ``calls`` calls.

    Raises:
        AssertionError: status callbacks were sent, and a call has not ended as they said.
    """
    make = _statuses if statuses else _voices
    async with contextlib.AsyncExitStack() as stack:
        vendors = await stack.enter_async_context(
            bench_process([sys.executable, "-m", "bench.light_vendors"])
        )
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="voicebot-webhooks-"))
        # The machine's other load must not decide how many calls are admitted.
        variables = vendor_variables(vendors[0]["url"]) | {
            "VOICEBOT_MAX_LAG_MS": "0",
            "VOICEBOT_WORKERS": str(workers),
        }
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
        count = round(rate * seconds)
        await _send(await make(settings, round(rate), rate), rate)  # what only the first ones pay
        requests = await make(settings, count, rate)
        cpu_s = subject.cpu_s()
        alone = await _send(requests, rate)
        cpu_ms = 1000 * (subject.cpu_s() - cpu_s) / count
        requests = await make(settings, count, rate)
        beside, late_percent = await _beside_calls(subject.carrier, calls, requests, rate)
        if statuses:
            await _check_ends(server)
    return {
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "workers": workers,
        "calls": calls,
        "rate": rate,
        "alone_ms": alone["webhook_ms"],
        "cpu_ms_a_webhook": round(cpu_ms, 2),
        **beside,
        "late_percent": late_percent,
    }


async def _beside_calls(
    carrier: Carrier, count: int, requests: Requests, rate: float
) -> tuple[Mapping[str, Any], float]:
    running: set[asyncio.Task[None]] = set()
    calls = await converse(carrier, count, RAMP_S, running) if count else []
    before = _late_and_all_s(calls)
    sent = await _send(requests, rate)
    after = _late_and_all_s(calls)
    for call in calls:
        call.hangs_up.set()
    await asyncio.gather(*running)
    audio_s = after[1] - before[1]
    return sent, round(100 * (after[0] - before[0]) / audio_s, 3) if audio_s else 0.0


def _late_and_all_s(calls: Sequence[LightCall]) -> tuple[float, float]:
    return sum(call.figures.late_s for call in calls), sum(call.figures.audio_s for call in calls)


@dataclass(frozen=True, slots=True)
class Requests:
    """Webhooks as they are sent, to the server of an address, and what each answer contains."""

    address: str
    encoded: Sequence[bytes]
    answer: str


def _form(settings: CarrierSettings, index: int, sid: str, status: str) -> dict[str, str]:
    return call_params(
        sid=sid,
        account_sid=settings.account_sid,
        from_=f"+{_FIRST_CALLER + index}",
        to=NUMBER,
        status=status,
        direction="inbound",
    )


async def _voices(settings: CarrierSettings, count: int, _: float) -> Requests:
    """The voice webhooks of so many calls."""
    return await _signed(settings, settings.voice_path, _forms(settings, count), "<Stream")


def _forms(settings: CarrierSettings, count: int) -> Sequence[Mapping[str, str]]:
    return [_form(settings, index, new_sid("CA"), "ringing") for index in range(count)]


async def _statuses(settings: CarrierSettings, count: int, rate: float) -> Requests:
    """Status callbacks of calls that have come in: each status twice, in any order within `DISORDER_S`."""
    voices = _forms(settings, max(1, count // (2 * len(STATUSES))))
    await _send(await _signed(settings, settings.voice_path, voices, "<Stream"), _SETUP_RATE)
    forms = [{**form, "CallStatus": status} for form in voices for status in STATUSES for _ in range(2)]
    moves = random.Random(count)
    places = {at: at + moves.uniform(0, DISORDER_S * rate) for at in range(len(forms))}
    forms = [forms[at] for at in sorted(places, key=places.__getitem__)]
    return await _signed(settings, settings.voice_path.rpartition("/")[0] + "/status", forms, "")


async def _check_ends(server: VoicebotServer) -> None:
    """Wait until all calls have ended, and read how."""
    ringing, deadline = {"status": "ringing", "limit": 1}, asyncio.get_running_loop().time() + 60
    while (await server.api.get("/calls", params=ringing)).json()["items"]:
        assert asyncio.get_running_loop().time() < deadline, "calls have not ended"
        await asyncio.sleep(0.5)
    cursor, reasons = None, Counter[str]()
    while True:
        query = {"limit": 200, **({"cursor": cursor} if cursor else {})}
        page = (await server.api.get("/calls", params=query)).json()
        reasons.update(call["end_reason"] for call in page["items"])
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert set(reasons) <= {"hangup"}, reasons


async def _signed(
    settings: CarrierSettings, path: str, forms: Sequence[Mapping[str, str]], answer: str
) -> Requests:
    """Webhooks of a path. To sign thousands takes a second, in which no call can send its audio."""
    webhooks = Webhooks(settings)
    url = settings.public_url + path
    address, forwarded = webhooks.reach(url)
    encoded = [
        request_bytes(address, {**forwarded, "X-Twilio-Signature": webhooks.signature(url, form)}, form)
        for form in forms
    ]
    await webhooks.aclose()
    return Requests(address, encoded, answer)


async def _send(requests: Requests, rate: float) -> Mapping[str, Any]:
    """Send webhooks and return their times."""
    loop = asyncio.get_running_loop()
    sender = Sender(requests.address, answer=requests.answer, count=len(requests.encoded))
    due = loop.time()
    late_ms: list[float] = []
    for request in requests.encoded:
        if (pause := due - loop.time()) > 0:
            await asyncio.sleep(pause)
        late_ms.append(1000 * (loop.time() - due))
        sender.send(request, due)
        due += 1 / rate
    await sender.done
    sender.close()
    return {"webhook_ms": percentiles(sender.took_ms), "sender_late_ms": percentiles(late_ms)}


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
            "tts": {"voice_id": FRONT},
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
    parser.add_argument("--status", action="store_true", help="send status callbacks instead")
    parser.add_argument("--workers", type=int, default=1, help="worker processes of the server")
    options = parser.parse_args()
    figures = measure(
        options.calls, options.rate, options.seconds, statuses=options.status, workers=options.workers
    )
    print(json.dumps(uvloop.run(figures)))


if __name__ == "__main__":
    main()
