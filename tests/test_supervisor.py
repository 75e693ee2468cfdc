"""The parent of the worker processes, with small programs as workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.api.processes import ROOT, start
from tests.supervised import FAILED, STOPPED
from voicebot.supervisor import reserved

DEADLINE_S = 60
"""Far more than any of this takes; only a failure waits for so long."""


class Supervised:
    """A supervisor and what its workers report."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.said: list[tuple[int, str]] = []
        self.pids: dict[int, int] = {}

    async def until(self, *expected: tuple[int, str]) -> None:
        """Read what the workers say until they have said all of this."""
        async with asyncio.timeout(DEADLINE_S):
            while not set(expected) <= set(self.said):
                assert await self._read(), (self.said, expected)

    async def ended(self) -> int:
        """Wait until the supervisor has ended; return its status."""
        async with asyncio.timeout(DEADLINE_S):
            while await self._read():
                pass
            return await self.process.wait()

    async def ready(self) -> Any:
        """Wait for the ready line; None: there was none."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            line = await self.process.stdout.readline()
        return json.loads(line) if line else None

    async def _read(self) -> bool:
        assert self.process.stderr is not None
        line = await self.process.stderr.readline()
        with contextlib.suppress(json.JSONDecodeError, KeyError):
            heard = json.loads(line)
            self.said.append((heard["worker"], heard["what"]))
            self.pids[heard["worker"]] = heard["pid"]
        return bool(line)


@contextlib.asynccontextmanager
async def supervised(behaviour: str, count: int = 2) -> AsyncIterator[Supervised]:
    """Run a supervisor with workers that behave so."""
    command = (sys.executable, "-m", "tests.supervised", str(count), behaviour)
    process = await start(command, {}, ROOT)
    try:
        yield Supervised(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        async with asyncio.timeout(DEADLINE_S):
            await process.communicate()


async def test_the_ready_line_is_printed_once_when_all_workers_are_ready() -> None:
    """One line for three workers; at the end the worst of their exit statuses."""
    async with supervised("works", 3) as running:
        assert await running.ready() == {"event": "ready", "url": "http://there"}
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == STOPPED
        assert await running.ready() is None
        assert {(n, f"signal {signal.SIGTERM:d}") for n in range(3)} <= set(running.said)


async def test_every_signal_is_passed_on() -> None:
    """The second signal reaches the workers that go on after the first."""
    async with supervised("needs two") as running:
        await running.ready()
        running.process.send_signal(signal.SIGTERM)
        await running.until(*((n, f"signal {signal.SIGTERM:d}") for n in range(2)))
        running.process.send_signal(signal.SIGINT)
        assert await running.ended() == STOPPED


async def test_a_worker_that_dies_is_started_again() -> None:
    """A worker that is killed three times gets a fourth start; the other one is left alone."""
    async with supervised("dies") as running:
        await running.until((0, "start 1"), (1, "start 4"))
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == STOPPED
        assert running.said.count((0, "start 1")) == 1


async def test_a_worker_that_cannot_start_ends_the_server() -> None:
    """Before the ready line a worker's failure stops the others; the exit status is the failure's."""
    async with supervised("fails") as running:
        assert await running.ready() is None
        assert await running.ended() == FAILED


async def test_a_worker_that_is_not_ready_is_stopped_at_once() -> None:
    """A signal before the ready line ends a worker that does not listen yet."""
    async with supervised("hangs") as running:
        await running.until((0, "start 1"), (1, "hangs"))
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0


async def test_workers_learn_that_the_supervisor_is_dead() -> None:
    """Workers learn from the end of the connection that the supervisor was killed."""
    async with supervised("works") as running:
        await running.ready()
        running.process.kill()
        await running.until((0, "orphaned"), (1, "orphaned"))


def test_a_port_is_not_shared_with_another_server() -> None:
    """A port that another program listens on is not reserved, although both would share it."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="in use"), reserved("127.0.0.1", port):
            pass


def test_a_free_port_is_taken_when_it_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other program can take a free port between its choice and its reservation."""
    others: list[socket.socket] = []
    close = socket.socket.close

    def closed(one: socket.socket) -> None:
        port = one.getsockname()[1]
        close(one)
        if not others and port:
            others.append(socket.create_server(("127.0.0.1", port)))

    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "close", closed)
        with reserved("127.0.0.1", 0) as (address,):
            assert address.port
    for other in others:
        other.close()


def test_workers_share_a_reserved_port() -> None:
    """Every worker listens on the reserved port, and the reservation itself takes no connection."""
    with reserved("127.0.0.1", 0) as (address,):
        listening = [
            socket.create_server((address.host, address.port), family=address.family, reuse_port=True)
            for _ in range(2)
        ]
        for one in listening:
            one.setblocking(False)
        clients = [socket.create_connection((address.host, address.port)) for _ in range(50)]
        accepted = []
        for one in listening:
            with contextlib.suppress(BlockingIOError):
                while True:
                    accepted.append(one.accept()[0])
        assert len(accepted) == len(clients)
        for each in (*listening, *clients, *accepted):
            each.close()
