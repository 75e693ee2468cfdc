"""A server, the vendors and a carrier to measure with: three processes, as in life."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from voicebot.sandbox.caller import Caller, Step
from voicebot.sandbox.carrier import Call, Carrier, CarrierSettings
from voicebot.sandbox.process import SandboxProcess
from voicebot.sandbox.world import TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN

PUBLIC_URL = "https://voicebot.example.com"
NUMBER = "+14155550100"
SETTLED_S = 1.5
"""What the server gets to write a call down and to close its sockets before it is looked at."""

_FIRST_CALLER = 14155550200
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a bench measures and by what."""

    sandbox: SandboxProcess
    url: str
    api: httpx.AsyncClient
    carrier: Carrier

    async def made(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """What was created by the API.

        Raises:
            httpx.HTTPStatusError: it was refused.
        """
        response = await self.api.post(path, json=dict(document))
        if response.is_error:
            sys.stderr.write(response.text + "\n")
        response.raise_for_status()
        return dict(response.json())

    def place(self, script: Sequence[Step], number: int) -> tuple[Call, Caller]:
        """Let caller `number` call and live a script."""
        # Nobody recognises voices while figures are taken: that costs this machine time.
        person = Caller(script=tuple(script), voice_id="caller-1", attentive=False)
        return self.carrier.call(from_=f"+{_FIRST_CALLER + number}", to=NUMBER, person=person), person

    async def said(self, call: Call) -> list[str]:
        """What the server wrote down of a call, a line an utterance."""
        calls = (await self.api.get("/calls", params={"limit": 200})).json()["items"]
        known = next((item for item in calls if item["carrier_call_id"] == call.sid), None)
        if known is None:
            return []
        items = (await self.api.get(f"/calls/{known['id']}/transcript")).json()["items"]
        return [f"{item['started_ms']} {item['speaker']}: {item['heard_text']}" for item in items]

    async def first_token_ms(self) -> float:
        """How long the model takes to its first token, asked for directly."""
        body = {"model": "sandbox", "stream": True, "messages": [{"role": "user", "content": "Hello."}]}
        headers = {"Authorization": f"Bearer {self.sandbox.env['OPENAI_API_KEY']}"}
        loop = asyncio.get_running_loop()
        async with httpx.AsyncClient(headers=headers) as client:
            await client.get(f"{self.sandbox.urls.openai}/models")  # the server's connections stand as well
            began = loop.time()
            async with client.stream(
                "POST", f"{self.sandbox.urls.openai}/chat/completions", json=body
            ) as answer:
                async for _ in answer.aiter_bytes():
                    return (loop.time() - began) * 1000
        raise RuntimeError("the model answered nothing")


@contextlib.asynccontextmanager
async def world(phrases: Iterable[str]) -> AsyncIterator[World]:
    """Start all of it with an empty database, and stop it again; `phrases` are what callers will say."""
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="voicebot-bench-"))
        sandbox = await stack.enter_async_context(SandboxProcess(phrases))
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            **sandbox.env,
            "PYTHONPATH": str(_ROOT),
            "VOICEBOT_DATA_DIR": f"{directory}/data",
            "VOICEBOT_PORT": "0",
            "VOICEBOT_DRAIN_TIMEOUT_MS": "1000",
            "PUBLIC_URL": PUBLIC_URL,
            "LOG_LEVEL": "WARNING",
        }
        url = await stack.enter_async_context(_server(environment, directory))
        account = await _said(["accounts", "create", "--name", "bench"], environment, directory)
        key = await _said(
            ["keys", "create", "--account", account["account_id"], "--role", "owner"], environment, directory
        )
        api = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {key['key']}"}, timeout=30
            )
        )
        settings = CarrierSettings(
            public_url=PUBLIC_URL,
            server_url=url,
            account_sid=TWILIO_ACCOUNT_SID,
            auth_token=TWILIO_AUTH_TOKEN,
        )
        carrier = await stack.enter_async_context(Carrier(settings))
        yield World(sandbox=sandbox, url=url, api=api, carrier=carrier)


@contextlib.asynccontextmanager
async def _server(environment: Mapping[str, str], directory: str) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "voicebot.server", env=dict(environment), cwd=directory, stdout=PIPE
    )
    try:
        if process.stdout is None:
            raise RuntimeError("no standard output")
        yield json.loads(await process.stdout.readline())["url"]
    finally:
        process.terminate()
        await process.wait()


async def _said(command: Sequence[str], environment: Mapping[str, str], directory: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "voicebot", *command, "--json",
        env=dict(environment), cwd=directory, stdout=PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    return dict(json.loads(out))


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """Smallest, p50, p95, p99 and largest of figures in ms, by nearest rank."""
    ranked = sorted(samples)

    def rank(percent: int) -> float:
        return round(ranked[max(0, -(-len(ranked) * percent // 100) - 1)], 1)

    return {
        "n": len(ranked), "min": round(ranked[0], 1),
        "p50": rank(50), "p95": rank(95), "p99": rank(99), "max": round(ranked[-1], 1),
    }  # fmt: skip
