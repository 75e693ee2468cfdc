"""How long one request can hold up a call: ``python -m bench.stall [--checkout DIRECTORY]``.

A caller listens to a long greeting while one request after another arrives, each of another kind: large,
deep, wide, slow, many, or ordinary. For each kind:

- ``audio_ms``: the longest time without audio at the caller;
- ``healthz_ms``: the longest response time of ``/healthz``, requested every 20 ms;
- ``status`` and ``answer_ms`` of the request (of a hundred requests: of the last one; of slow clients: how
  many connections the server has closed after 2 s).

A request without an answer after 20 s is given up; a server that does not recover is started again. The
``baseline`` has the same figures without a request. ``--checkout`` starts the server of another checkout, so
that before and after can be compared. The result is JSON on standard output.
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
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from bench.conversations import CONVERSATIONS
from bench.density import bench_process, vendor_variables
from bench.environment import NUMBER, PUBLIC_URL, ROOT, VoicebotServer, voicebot_server
from bench.light_callers import Carrier, LightCall
from bench.stall_requests import Request, requests, set_of_large_templates
from voicebot.sandbox.carrier import CarrierSettings
from voicebot.sandbox.environment import TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN

PROBE_S = 0.02
WINDOW_S = 0.6
GIVE_UP_S = 20.0
HANG_UP_S = 5.0
SLOW_S = 2.0
DRIP_S = 0.1
CALL_S = 40.0
"""A call is replaced after this time, long before its greeting ends."""


@dataclass(slots=True)
class Probe:
    """The longest response time of ``/healthz``."""

    url: str
    longest_s: float = 0.0
    pending_since: float | None = None
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while no request is pending."""

    async def run(self) -> None:
        """Ask until cancelled."""
        loop = asyncio.get_running_loop()
        async with httpx.AsyncClient(base_url=self.url, timeout=GIVE_UP_S * 4) as client:
            while True:
                self.idle.clear()
                self.pending_since = started = loop.time()
                with contextlib.suppress(httpx.HTTPError):
                    await client.get("/healthz")
                self.pending_since = None
                self.idle.set()
                self.longest_s = max(self.longest_s, loop.time() - started)
                await asyncio.sleep(PROBE_S)

    def take(self) -> float:
        """The longest time since the last reading, the pending request included."""
        pending = self.pending_since
        now = asyncio.get_running_loop().time()
        longest, self.longest_s = max(self.longest_s, now - pending if pending else 0.0), 0.0
        return longest


class StallBench:
    """One server with a caller."""

    def __init__(self, server: VoicebotServer, carrier: Carrier) -> None:
        self._server, self._carrier = server, carrier
        self._probe = Probe(server.url)
        self._call: LightCall | None = None
        self._called_at = 0.0
        self._calls = 0
        self._probing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def measure(self, request: Request | None) -> dict[str, Any]:
        """Send a request while the caller listens."""
        call = await self._listening()
        self._probe.take()
        call.figures.longest_silence_s = 0.0
        began = asyncio.get_running_loop().time()
        status: Any = None
        if request is not None:
            status = await (self._send(request) if request.drip is None else self._hold(request))
        answered = asyncio.get_running_loop().time() - began
        await asyncio.sleep(WINDOW_S)
        return {
            "audio_ms": round(1000 * max(call.figures.longest_silence_s, self._pending(call))),
            "healthz_ms": round(1000 * self._probe.take()),
            "status": status,
            "answer_ms": round(1000 * answered),
        }

    async def recovers(self) -> bool:
        """Whether the server answers again before long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GIVE_UP_S):
                await self._probe.idle.wait()
                return True
        return False

    async def close(self) -> None:
        """Hang up: the server would wait for the end of the call."""
        if self._call is not None:
            self._call.hangs_up.set()
            await asyncio.wait(self._tasks, timeout=HANG_UP_S)
        tasks = [*self._tasks, *([self._probing] if self._probing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listening(self) -> LightCall:
        loop = asyncio.get_running_loop()
        if self._probing is None:
            self._probing = asyncio.create_task(self._probe.run())
        if self._call is None or loop.time() - self._called_at > CALL_S or self._call.figures.lost:
            if self._call is not None:
                self._call.hangs_up.set()
            self._call = await self._carrier.place(self._calls)
            self._calls, self._called_at = self._calls + 1, loop.time()
            self._start(self._call.run())
            await asyncio.sleep(WINDOW_S * 3)  # until the greeting plays
        return self._call

    def _pending(self, call: LightCall) -> float:
        return max(0.0, call.silent_s())

    def _start(self, work: Any) -> None:
        self._tasks.add(asyncio.create_task(work))

    async def _hold(self, request: Request) -> dict[str, int]:
        """Open connections and send slowly; returns how many were open and closed at the end."""
        parts = urlsplit(self._server.url)
        opened = await asyncio.gather(
            *(asyncio.open_connection(parts.hostname, parts.port) for _ in range(request.count)),
            return_exceptions=True,
        )
        connections = [each for each in opened if not isinstance(each, BaseException)]
        loop = asyncio.get_running_loop()
        until, sent = loop.time() + SLOW_S, request.body
        while loop.time() < until:
            for _, writer in connections:
                if not writer.is_closing():
                    writer.write(sent)
            sent = request.drip or b""
            await asyncio.sleep(DRIP_S)
        closed = request.count - len(connections) + sum(reader.at_eof() for reader, _ in connections)
        for _, writer in connections:
            writer.close()
        return {"open": request.count - closed, "closed": closed}

    async def _send(self, request: Request) -> Any:
        parts = urlsplit(self._server.url)
        headers = {"Content-Type": request.media_type, **request.headers}
        if request.has_key:
            headers["Authorization"] = self._server.api.headers["Authorization"]
        async with httpx.AsyncClient(
            base_url=f"{parts.scheme}://{parts.netloc}", timeout=GIVE_UP_S, headers=headers
        ) as client:
            sent = (
                client.request(request.method, request.path, content=request.body)
                for _ in range(request.count)
            )
            answers = await asyncio.gather(*sent, return_exceptions=True)
        counted = [a.status_code if isinstance(a, httpx.Response) else type(a).__name__ for a in answers]
        return counted[0] if len(counted) == 1 else {str(each): counted.count(each) for each in set(counted)}


async def measure(root: Path) -> dict[str, Any]:
    """Measure all kinds; a server that does not recover is replaced."""
    results: dict[str, Any] = {}
    pending: list[tuple[str, Request | None]] = [("baseline", None), *requests().items()]
    while pending:
        async with _bench(root) as bench:
            while pending:
                kind, request = pending.pop(0)
                results[kind] = await bench.measure(request)
                print(f"{kind}: {results[kind]}", file=sys.stderr)
                if not await bench.recovers():
                    break
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    return {"machine": machine, "checkout": str(root), "requests": results}


@contextlib.asynccontextmanager
async def _bench(root: Path) -> AsyncIterator[StallBench]:
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="voicebot-stall-"))
        vendors, _ = await stack.enter_async_context(
            bench_process([sys.executable, "-m", "bench.light_vendors"])
        )
        variables = {**vendor_variables(vendors["url"]), "VOICEBOT_SECRET_KEY": "bench-" * 8}
        server = await stack.enter_async_context(voicebot_server(variables, directory, root=root))
        await _create_templates(server)
        settings = CarrierSettings(
            public_url=PUBLIC_URL,
            server_url=server.url,
            account_sid=TWILIO_ACCOUNT_SID,
            auth_token=TWILIO_AUTH_TOKEN,
        )
        carrier = Carrier(settings, NUMBER, CONVERSATIONS["density"])
        stack.push_async_callback(carrier.close)
        bench = StallBench(server, carrier)
        stack.push_async_callback(bench.close)
        yield bench


async def _create_templates(server: VoicebotServer) -> None:
    number = await server.create("/numbers", {"e164": NUMBER})
    await server.api.post(
        "/templates/import", content=set_of_large_templates(), headers={"Content-Type": "application/json"}
    )
    agent = {"name": "Billing", "status": "active", "prompt": "You answer questions about invoices."}
    billing = await server.create("/templates", agent)
    greeting = "Hello, this is Acme. " * 47  # a minute of speech
    await server.create(
        "/templates",
        {
            "name": "Front desk",
            "kind": "orchestrator",
            "status": "active",
            "number_id": number["id"],
            "greeting": {"text": greeting, "interruptible": False},
            "prompt": "You are the front desk of Acme.",
            "tts": {"voice_id": "frontvoice0000000001"},
            "routes": [{"name": "billing", "template_id": billing["id"], "when": "An invoice."}],
        },
    )


def main() -> None:
    """Run the bench with the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.stall",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkout", type=Path, default=ROOT, help="whose server is measured")
    options = parser.parse_args()
    print(json.dumps(asyncio.run(measure(options.checkout.resolve())), indent=2))


if __name__ == "__main__":
    main()
