"""Where templates are checked: in a process of its own, one check at a time, fair to waiting accounts.

A check is Python code that holds the interpreter lock, which the event loop needs for audio. In a process
with a lower priority it takes nothing from the event loop but the time to send and receive. See
docs/decisions/0023-checks.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar, cast
from uuid import UUID

from loguru import logger

from voicebot.authoring.check_worker import LENGTH_BYTES, READY, packed, unpacked

MAX_WAITING = 100
"""Maximum number of checks of one account that wait or run."""

WAIT_S = 20.0
"""How long a check may wait for its turn, in seconds."""

BUDGET_S = 10.0
"""How long one check may take before its process is killed, in seconds; the largest takes 0.2 s."""

START_S = 60.0
"""How long the process may take to start, in seconds."""

_ATTEMPTS = 2
_WORKER = (
    sys.executable, "-c", "from voicebot.imports import load; load('voicebot.authoring.check_worker').main()"
)  # fmt: skip

ParamsT = ParamSpec("ParamsT")
ResultT = TypeVar("ResultT")


class TooManyChecks(Exception):
    """There is no time for a check now; the same request may succeed later."""


class Checks(Protocol):
    """Where functions of a check run. Each is a function of a module; arguments and results are pickled."""

    async def run(
        self,
        account_id: UUID,
        function: Callable[ParamsT, ResultT],
        *args: ParamsT.args,
        **named: ParamsT.kwargs,
    ) -> ResultT:
        """Run a function of bounded cost for an account; its exceptions are raised.

        Raises:
            TooManyChecks: the account has too many, or there was no time.
        """
        ...


class DirectChecks:
    """Runs functions at once, for commands, which have no calls."""

    async def run(
        self,
        account_id: UUID,
        function: Callable[ParamsT, ResultT],
        *args: ParamsT.args,
        **named: ParamsT.kwargs,
    ) -> ResultT:
        """See ``Checks``."""
        del account_id
        return function(*args, **named)


class CheckPool:
    """Runs functions in a process for checks, in turns: one of each account that waits."""

    def __init__(
        self, *, max_waiting: int = MAX_WAITING, wait_s: float = WAIT_S, budget_s: float = BUDGET_S
    ) -> None:
        """Create a pool; its process starts with the first check, which takes half a second."""
        self._max_waiting = max_waiting
        self._wait_s = wait_s
        self._worker = _Worker(budget_s)
        self._turn = asyncio.Lock()
        self._turns_of: dict[UUID, asyncio.Lock] = {}
        self._waiting: Counter[UUID] = Counter()

    async def run(
        self,
        account_id: UUID,
        function: Callable[ParamsT, ResultT],
        *args: ParamsT.args,
        **named: ParamsT.kwargs,
    ) -> ResultT:
        """See ``Checks``."""
        if self._waiting[account_id] >= self._max_waiting:
            raise TooManyChecks(f"{self._max_waiting} checks of this account are waiting already.")
        self._waiting[account_id] += 1
        try:
            async with self._turn_of(account_id):
                running = asyncio.ensure_future(self._worker.call(function, args, named))
                try:
                    return cast("ResultT", await asyncio.shield(running))
                except asyncio.CancelledError:
                    # The process works on: the turn is over when it has finished.
                    await asyncio.wait([running])
                    raise
        finally:
            self._waiting[account_id] -= 1
            if not self._waiting[account_id]:
                del self._waiting[account_id]
                self._turns_of.pop(account_id, None)

    async def close(self) -> None:
        """End the process; a check that runs is refused, and so are later ones."""
        await self._worker.close()

    @contextlib.asynccontextmanager
    async def _turn_of(self, account_id: UUID) -> AsyncIterator[None]:
        """Wait for the account's turn, and then for its turn among the accounts."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._wait_s):
                    for lock in (self._turns_of.setdefault(account_id, asyncio.Lock()), self._turn):
                        await stack.enter_async_context(lock)
            except TimeoutError:
                raise TooManyChecks("Checks of other requests take all the time of the server.") from None
            yield


class _WorkerLost(Exception):
    """The process ended while it was needed."""


@dataclass(frozen=True, slots=True)
class _Running:
    """A running process, and the streams to it and from it."""

    process: subprocess.Popen[bytes]
    requests: asyncio.StreamWriter
    results: asyncio.StreamReader


class _Worker:
    """The process, started when it is needed and is not there."""

    def __init__(self, budget_s: float) -> None:
        self._budget_s = budget_s
        self._running: _Running | None = None
        self._is_closed = False

    async def call(self, function: Callable[..., Any], args: Any, named: Any) -> Any:
        """Call a function in the process; its exception is raised.

        Raises:
            TooManyChecks: it took too long, or the process could not be started or kept.
        """
        request = packed((function, args, named))
        for _ in range(_ATTEMPTS):
            if self._is_closed:
                break
            try:
                running = await self._started()
                async with asyncio.timeout(self._budget_s):
                    succeeded, result = unpacked(await _exchange(running, request))
            except TimeoutError:
                await self._kill()
                logger.error("a check of a template took more than {} s and was ended", self._budget_s)
                raise TooManyChecks("The check took too long and was ended.") from None
            except (_WorkerLost, OSError) as error:
                await self._kill()
                if not self._is_closed:
                    logger.error("the process that checks templates was lost: {}", type(error).__name__)
            else:
                if succeeded:
                    return result
                raise result
        raise TooManyChecks("The process that checks templates cannot be kept running.")

    async def close(self) -> None:
        """Kill the process; none is started any more."""
        self._is_closed = True
        await self._kill()

    async def _kill(self) -> None:
        """Kill the process; the next call starts another one."""
        running, self._running = self._running, None
        if running is not None:
            running.requests.close()
            running.process.kill()
            await asyncio.to_thread(running.process.wait)

    async def _started(self) -> _Running:
        """The process, which is ready.

        Raises:
            OSError: it cannot be started in time.
        """
        if self._running is not None and self._running.process.poll() is None:
            return self._running
        await self._kill()
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.to_thread(start_process, theirs.fileno())
        results, requests = await asyncio.open_unix_connection(sock=ours)
        self._running = _Running(process, requests, results)
        try:
            async with asyncio.timeout(START_S):
                await results.readexactly(len(READY))
        except (TimeoutError, asyncio.IncompleteReadError):
            raise OSError("the process did not start") from None
        return self._running


def start_process(end: int) -> subprocess.Popen[bytes]:
    """Start the process for checks.

    Args:
        end: the file descriptor of a socket, its input and output.

    asyncio with uvloop would fork this process and copy its page tables: those of 400 MB take 80 ms, in which
    no call has audio. `subprocess` uses vfork.
    """
    return subprocess.Popen(_WORKER, stdin=end, stdout=end)  # noqa: S603 - this program


async def _exchange(running: _Running, request: bytes) -> bytes:
    """Send a request; return its result.

    Raises:
        _WorkerLost: the process has ended.
    """
    try:
        running.requests.write(request)
        await running.requests.drain()
        length = int.from_bytes(await running.results.readexactly(LENGTH_BYTES), "big")
        return await running.results.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise _WorkerLost from error
