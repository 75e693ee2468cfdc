"""What the call benches measure: a server and the sandbox vendors as processes, and a simulated carrier."""

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
from voicebot.sandbox.environment import TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN
from voicebot.sandbox.process import SandboxProcess

PUBLIC_URL = "https://voicebot.example.com"
NUMBER = "+14155550100"
SETTLE_S = 1.5
"""Pause after which the server has written a call and closed its sockets, in seconds."""

_FIRST_CALLER = 14155550200
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class VoicebotServer:
    """A running server process with an account of its own.

    Attributes:
        pid: the id of the process; PostgreSQL runs in processes of its own.
        api: a client of the API with the key of the account's owner.
    """

    url: str
    pid: int
    api: httpx.AsyncClient

    async def create(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Create a resource with the API and return the answer.

        Raises:
            httpx.HTTPStatusError: the API refused the document.
        """
        response = await self.api.post(path, json=dict(document))
        if response.is_error:
            sys.stderr.write(response.text + "\n")
        response.raise_for_status()
        return dict(response.json())


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchEnvironment:
    """The running processes and clients of a bench."""

    sandbox: SandboxProcess
    server: VoicebotServer
    carrier: Carrier

    @property
    def url(self) -> str:
        """The URL of the server."""
        return self.server.url

    async def create(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Create a resource with the API and return the answer; see `VoicebotServer.create`."""
        return await self.server.create(path, document)

    def place_call(self, script: Sequence[Step], number: int) -> tuple[Call, Caller]:
        """Place a call in which caller ``number`` follows a script."""
        # Without voice recognition in the caller, which would use CPU time during the measurement.
        caller = Caller(script=tuple(script), voice_id="caller-1", attentive=False)
        return self.carrier.call(from_=f"+{_FIRST_CALLER + number}", to=NUMBER, person=caller), caller

    async def transcript(self, call: Call) -> list[str]:
        """The transcript that the server wrote for a call, one line per utterance."""
        calls = (await self.server.api.get("/calls", params={"limit": 200})).json()["items"]
        record = next((item for item in calls if item["carrier_call_id"] == call.sid), None)
        if record is None:
            return []
        items = (await self.server.api.get(f"/calls/{record['id']}/transcript")).json()["items"]
        return [f"{item['started_ms']} {item['speaker']}: {item['heard_text']}" for item in items]

    async def llm_first_token_ms(self) -> float:
        """Time from a direct request to the first bytes of the language model's answer, in ms."""
        body = {"model": "sandbox", "stream": True, "messages": [{"role": "user", "content": "Hello."}]}
        headers = {"Authorization": f"Bearer {self.sandbox.env['OPENAI_API_KEY']}"}
        loop = asyncio.get_running_loop()
        async with httpx.AsyncClient(headers=headers) as client:
            # The server keeps its connections open, so this measurement uses an open connection too.
            await client.get(f"{self.sandbox.urls.openai}/models")
            started = loop.time()
            async with client.stream(
                "POST", f"{self.sandbox.urls.openai}/chat/completions", json=body
            ) as answer:
                async for _ in answer.aiter_bytes():
                    return (loop.time() - started) * 1000
        raise RuntimeError("the language model sent an empty answer")


@contextlib.asynccontextmanager
async def voicebot_server(
    vendors: Mapping[str, str],
    directory: str,
    python: Sequence[str] = (sys.executable, "-m"),
    root: Path = ROOT,
) -> AsyncIterator[VoicebotServer]:
    """Start a server with an empty database and an account, and stop it at the end.

    Args:
        vendors: the environment variables of the vendors and of the carrier.
        directory: where the database is.
        python: how a module is run.
        root: the checkout whose server is started.
    """
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        **vendors,
        "PYTHONPATH": str(root),
        "VOICEBOT_DATA_DIR": f"{directory}/data",
        "VOICEBOT_PORT": "0",
        "VOICEBOT_DRAIN_TIMEOUT_MS": "1000",
        # A bench measures what happens when a process is full.
        "VOICEBOT_MAX_LAG_MS": "0",
        "PUBLIC_URL": PUBLIC_URL,
        "LOG_LEVEL": "WARNING",
    }
    async with _server([*python, "voicebot", "serve"], environment, directory) as (url, pid):
        account = await _command(["accounts", "create", "--name", "bench"], environment, directory)
        key = await _command(
            ["keys", "create", "--account", account["account_id"], "--role", "owner"], environment, directory
        )
        headers = {"Authorization": f"Bearer {key['key']}"}
        async with httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers, timeout=30) as api:
            yield VoicebotServer(url=url, pid=pid, api=api)


@contextlib.asynccontextmanager
async def bench_environment(phrases: Iterable[str]) -> AsyncIterator[BenchEnvironment]:
    """Start all processes with an empty database, and stop them at the end.

    Args:
        phrases: everything that callers will say, from which the sandbox builds its speech recogniser.
    """
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="voicebot-bench-"))
        sandbox = await stack.enter_async_context(SandboxProcess(phrases))
        server = await stack.enter_async_context(voicebot_server(sandbox.env, directory))
        settings = CarrierSettings(
            public_url=PUBLIC_URL,
            server_url=server.url,
            account_sid=TWILIO_ACCOUNT_SID,
            auth_token=TWILIO_AUTH_TOKEN,
        )
        carrier = await stack.enter_async_context(Carrier(settings))
        yield BenchEnvironment(sandbox=sandbox, server=server, carrier=carrier)


@contextlib.asynccontextmanager
async def _server(
    command: Sequence[str], environment: Mapping[str, str], directory: str
) -> AsyncIterator[tuple[str, int]]:
    """A server process; yields its URL and its id, and stops it at the end."""
    process = await asyncio.create_subprocess_exec(
        *command, env=dict(environment), cwd=directory, stdout=PIPE
    )
    try:
        if process.stdout is None:
            raise RuntimeError("the server process has no standard output")
        yield json.loads(await process.stdout.readline())["url"], process.pid
    finally:
        process.terminate()
        await process.wait()


async def _command(command: Sequence[str], environment: Mapping[str, str], directory: str) -> dict[str, Any]:
    """Run a ``voicebot`` command with ``--json`` and return its answer."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "voicebot", *command, "--json",
        env=dict(environment), cwd=directory, stdout=PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    return dict(json.loads(out))
