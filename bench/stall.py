"""How long one request can hold up a call: ``python -m bench.stall [--checkout DIRECTORY]``.

A caller listens to a long greeting while one request after another arrives, each of another kind: large,
deep, wide, many, or ordinary. For each kind:

- ``audio_ms``: the longest time without audio at the caller;
- ``healthz_ms``: the longest response time of ``/healthz``, requested every 20 ms;
- ``status`` and ``answer_ms`` of the request (of a hundred requests: of the last one).

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
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from bench.conversations import CONVERSATIONS
from bench.density import bench_process, vendor_variables
from bench.environment import NUMBER, PUBLIC_URL, ROOT, VoicebotServer, voicebot_server
from bench.light_callers import Carrier, LightCall
from voicebot.sandbox.carrier import CarrierSettings
from voicebot.sandbox.environment import TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN

PROBE_S = 0.02
WINDOW_S = 0.6
GIVE_UP_S = 20.0
CALL_S = 40.0
"""A call is replaced after this time, long before its greeting ends."""
MIB = 1024 * 1024
JSON = "application/json"

CHECK = "/api/v1/templates/check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request of one kind, sent ``count`` times at once."""

    path: str
    method: str = "POST"
    body: bytes = b""
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    count: int = 1
    has_key: bool = True


def template(**fields: Any) -> bytes:
    """Return a template as the body of a request."""
    return json.dumps({"name": "Large", **fields}).encode()


def http_function(**fields: Any) -> list[dict[str, Any]]:
    """Return the functions of a template with one HTTP function."""
    return [{"type": "http", "name": "find", "description": "x", "url": "https://example.com/", **fields}]


def large_template() -> bytes:
    """Return a template of about the largest size allowed, with an expensive check."""
    words = [f"word{n}" for n in range(600)]
    whens = [" ".join(words[(n * 7 + m * 13) % 600] for m in range(280)) for n in range(100)]
    routes = [{"name": f"r{n}", "when": when} for n, when in enumerate(whens)]
    return template(kind="orchestrator", routes=routes)


def requests() -> Mapping[str, Request]:
    """Return the requests by kind."""
    patterns = {f"p{n}": {"type": "string", "pattern": rf"(\pL{{{100 - n}}}){{4}}"} for n in range(40)}
    braces = "https://example.com/" + "{{" * 20_000
    keys = "".join(" " * n + "k" * 9000 + f"{n}:\n" for n in range(40))
    required = [{"a": n} for n in range(3000)]
    nested: dict[str, Any] = {"type": "object"}
    for _ in range(12):
        nested = {"allOf": [nested], "unevaluatedProperties": nested}
    links = {f"l{n}": {"$ref": f"#/$defs/l{n + 1}"} for n in range(1000)}
    chained = {"type": "object", "properties": {"a": {"$ref": "#/$defs/l0"}}, "$defs": {**links, "l1000": {}}}
    routes = [
        {"name": f"r{n}", "when": " ".join(f"w{(n + m) % 900}" for m in range(60))} for n in range(1500)
    ]
    return {
        "honest list": Request(path="/api/v1/templates", method="GET"),
        "honest check": Request(path=CHECK, body=template(prompt="You are an agent.")),
        "url of braces": Request(path=CHECK, body=template(functions=http_function(url=braces))),
        "patterns": Request(
            path=CHECK,
            body=template(functions=http_function(parameters={"type": "object", "properties": patterns})),
        ),
        "required objects": Request(
            path=CHECK,
            body=template(functions=http_function(parameters={"type": "object", "required": required})),
        ),
        "nested schema": Request(path=CHECK, body=template(functions=http_function(parameters=nested))),
        "chained references": Request(path=CHECK, body=template(functions=http_function(parameters=chained))),
        "similar routes": Request(path=CHECK, body=template(kind="orchestrator", routes=routes)),
        "unknown fields": Request(path=CHECK, body=template(**{f"promp{n}": 1 for n in range(50_000)})),
        "many values": Request(path=CHECK, body=template(body=[0] * 600_000)),
        "deep JSON": Request(path=CHECK, body=b"[" * MIB),
        "long text": Request(path=CHECK, body=template(prompt="{{ a" * 480_000)),
        "long keys in YAML": Request(
            path="/api/v1/templates/import",
            media_type="application/yaml",
            body=f"{keys}{' ' * 40}- 1".encode(),
        ),
        "values in YAML": Request(
            path="/api/v1/templates/import", media_type="application/yaml", body=b"- 1\n" * 180_000
        ),
        "set of 500": Request(
            path="/api/v1/templates/import?dry_run=true",
            body=json.dumps(
                {"templates": [{"name": f"T{n}", "prompt": "x" * 3500} for n in range(500)]}
            ).encode(),
        ),
        "body before the key": Request(path=CHECK, body=template(body=[0] * 600_000), has_key=False),
        "condition of spaces": Request(
            path="/api/v1/templates/01a1fb64-16ef-7341-baef-1bff17f7b0e5",
            method="DELETE",
            headers={"If-Match": '"1"' + " " * 3000 + "x"},
        ),
        "webhook of 9,000 fields": Request(
            path="/webhooks/twilio/voice",
            media_type="application/x-www-form-urlencoded",
            body="&".join(f"f{n}=1" for n in range(6000)).encode(),
            has_key=False,
        ),
        "seven largest checks": Request(path=CHECK, body=large_template(), count=7),
        "a hundred largest checks": Request(path=CHECK, body=large_template(), count=100),
    }


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
        self._tasks: set[asyncio.Task[None]] = set()

    async def measure(self, request: Request | None) -> dict[str, Any]:
        """Send a request while the caller listens."""
        call = await self._listening()
        self._probe.take()
        call.figures.longest_silence_s = 0.0
        began = asyncio.get_running_loop().time()
        status: Any = None
        if request is not None:
            status = await self._send(request)
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
        """Hang up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listening(self) -> LightCall:
        loop = asyncio.get_running_loop()
        if not self._tasks:
            self._start(self._probe.run())
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
