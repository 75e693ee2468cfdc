"""The sandbox in a separate process, for the demo and the benches."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Self

import httpx

from voicebot.sandbox.environment import Urls
from voicebot.sandbox.vendors.faults import Fault, Server
from voicebot.sandbox.vendors.script import Answer
from voicebot.sandbox.vendors.usage import Connection, Request, Tally

_START_S = 30.0
_STOP_S = 5.0


class SandboxFailed(RuntimeError):
    """The process of the sandbox did not start; its standard error, which is shared with ours, says why."""


class SandboxProcess:
    """`python -m voicebot.sandbox` while the context is open, controlled through its control server."""

    def __init__(self, phrases: Iterable[str] = (), *, wait: bool = True) -> None:
        """Configure the process; entering the context starts it.

        Args:
            phrases: what callers will say.
            wait: enter the context when the servers answer. Otherwise it is entered when their addresses are
                chosen, and `ready` waits.
        """
        self._phrases = list(phrases)
        self._wait = wait
        self._starting: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._client: httpx.AsyncClient | None = None
        self._ready: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "voicebot.sandbox",
            "--addresses-first",
            "--end-with-stdin",  # so that it does not outlive us if we are killed
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            self._ready = await asyncio.wait_for(self._next_line(self._process), _START_S)
        except (TimeoutError, ValueError) as error:
            await self._end(self._process)
            raise SandboxFailed("the sandbox did not print its addresses") from error
        self._client = httpx.AsyncClient(base_url=self._ready["control_url"], timeout=30.0)
        self._starting = asyncio.create_task(self._start(self._process))
        if self._wait:
            try:
                await self.ready()
            except BaseException:
                await self.__aexit__()
                raise
        return self

    async def ready(self) -> None:
        """Wait until the servers answer.

        Raises:
            SandboxFailed: they do not.
        """
        if self._starting is not None:
            await self._starting

    async def _start(self, process: asyncio.subprocess.Process) -> None:
        try:
            await asyncio.wait_for(self._next_line(process), _START_S)
        except (TimeoutError, ValueError) as error:
            raise SandboxFailed("the sandbox did not start") from error
        if self._phrases:
            await self.expect(self._phrases)

    async def __aexit__(self, *_: object) -> None:
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
        if self._process is not None:
            await self._end(self._process)

    @property
    def env(self) -> dict[str, str]:
        """The environment variables that make a voicebot server use the sandbox."""
        return dict(self._ready["env"])

    @property
    def urls(self) -> Urls:
        """The addresses of the servers."""
        names = ("openai", "deepgram", "elevenlabs", "twilio", "exotel", "control")
        return Urls(**{name: self._ready[f"{name}_url"] for name in names})

    async def expect(self, phrases: Iterable[str]) -> None:
        """Make Deepgram recognise these phrases, and no others, from the next utterance on."""
        await self._ask("PUT", "/phrases", {"phrases": list(phrases)})

    async def misbehave(self, fault: Fault) -> None:
        """Turn a fault on."""
        await self._ask("POST", "/faults", asdict(fault))

    async def behave(self, server: Server | None = None) -> None:
        """Turn all faults off, or those of one server."""
        await self._ask("DELETE", "/faults", None, server=server)

    async def answer(self, *answers: Answer | str, **conditions: str | bool) -> None:
        """Script the language model as `LlmScript.answer` does."""
        given = [each if isinstance(each, str) else _posted(each) for each in answers]
        await self._ask("POST", "/answers", {"answers": given, **conditions})

    async def set_latency(self, **milliseconds: float) -> None:
        """Change fields of `Latency`."""
        await self._ask("PATCH", "/latency", milliseconds)

    async def tally(self, server: Server | None = None, key: str | None = None) -> Tally:
        """Sum up a server, or one of its voices or models."""
        answer = await self._ask("GET", "/usage", None, server=server, key=key)
        return Tally(**{name: answer[name] for name in ("opened", "open", "requests", "characters")})

    async def connections(self, server: Server | None = None, key: str | None = None) -> list[Connection]:
        """Return the websockets in the order they were opened."""
        answer = await self._ask("GET", "/connections", None, server=server, key=key)
        return [Connection(**item) for item in answer["items"]]

    async def sever(self, server: Server, key: str | None = None) -> int:
        """Abort the open websockets of a server, or of one voice or model; return how many there were."""
        return int((await self._ask("DELETE", "/connections", None, server=server, key=key))["severed"])

    async def requests(self, server: Server | None = None, key: str | None = None) -> list[Request]:
        """Return what was asked, in order."""
        answer = await self._ask("GET", "/requests", None, server=server, key=key)
        return [Request(**item) for item in answer["items"]]

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None, **query: str | None
    ) -> dict[str, Any]:
        if self._client is None:
            raise RuntimeError("the sandbox has not been started")
        wanted = {name: value for name, value in query.items() if value is not None}
        response = await self._client.request(method, path, json=body, params=wanted)
        response.raise_for_status()
        return dict(response.json()) if response.content else {}

    @staticmethod
    async def _next_line(process: asyncio.subprocess.Process) -> dict[str, Any]:
        if process.stdout is None:
            raise ValueError("no standard output")
        return dict(json.loads(await process.stdout.readline()))

    @staticmethod
    async def _end(process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def _posted(answer: Answer) -> dict[str, Any]:
    calls = [{"name": name, "arguments": arguments} for name, arguments in answer.calls]
    return {**asdict(answer), "calls": calls}
