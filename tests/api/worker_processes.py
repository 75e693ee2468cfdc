"""A server with several worker processes, each of which a test can reach by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from websockets.asyncio.client import ClientConnection, unix_connect

from tests.api.processes import VOICEBOT, Start, fork, server
from tests.api.server_fixture import PUBLIC_URL, http_client, signed
from tests.api.twilio import Reply, Twilio, start_message
from tests.forked import Forked

DEADLINE_S = 200
"""Far more than a worker needs to start; only a failure waits for so long."""


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """One worker, at the Unix socket on which the other workers reach it."""

    path: Path

    @property
    def pid(self) -> int:
        """Its process id, from the credentials of its end of a connection (Linux)."""
        with socket.socket(socket.AF_UNIX) as connected:
            connected.connect(str(self.path))
            credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid: int = struct.unpack("3i", credentials)[0]
        return pid

    def client(self, key: str | None = None) -> httpx.AsyncClient:
        """Return a client of this worker's API."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        transport = httpx.AsyncHTTPTransport(uds=str(self.path))
        return http_client(transport=transport, base_url="http://worker", headers=headers)

    async def post(self, twilio: Twilio, webhook: str) -> Reply:
        """Have this worker receive a webhook of a call."""
        signature = signed(f"{PUBLIC_URL}/webhooks/twilio/{webhook}", twilio.form)
        async with self.client() as carrier:
            return Reply(
                await carrier.post(f"/webhooks/twilio/{webhook}", data=twilio.form, headers=signature)
            )

    @contextlib.asynccontextmanager
    async def media(self, twilio: Twilio, token: str) -> AsyncIterator[ClientConnection]:
        """Open the media socket of a call at this worker."""
        async with unix_connect(
            str(self.path),
            uri="ws://worker/media/twilio",
            close_timeout=1,
            # Nobody reads the audio: the client must go on to read from the connection all the same.
            ping_interval=None,
            max_queue=None,
        ) as connected:
            await connected.send(json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
            await connected.send(json.dumps(start_message(twilio.call_sid, token)))
            yield connected


@dataclass(frozen=True, slots=True)
class Workers:
    """A server with several workers."""

    url: str
    process: Process | Forked
    directory: Path

    def __getitem__(self, number: int) -> WorkerProcess:
        return WorkerProcess(self.directory / f"{number}.sock")

    async def started_again(self, number: int, before: int) -> WorkerProcess:
        """Wait until another process than ``before`` is the worker."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                with contextlib.suppress(OSError):
                    if self[number].pid != before:
                        return self[number]
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def worker_processes(
    environment: Mapping[str, str], cwd: Path, start: Start = fork
) -> AsyncIterator[Workers]:
    """Run a server with two workers."""
    # The path of a Unix socket is short, and that of a test's directory may not be.
    with tempfile.TemporaryDirectory() as directory:
        command = (*VOICEBOT, "serve", "--workers", "2")
        async with server(command, {**environment, "TMPDIR": directory}, cwd, start) as (url, process):
            yield Workers(url, process, _only_directory(directory))


def _only_directory(path: str) -> Path:
    """Return the directory that the workers share."""
    (shared,) = Path(path).glob("voicebot-*/")
    return shared
