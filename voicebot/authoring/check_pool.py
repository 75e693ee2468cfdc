"""The thread that checks templates: never two checks at once, and fair to the accounts that wait for one.

A check is Python code that holds the interpreter lock, which the event loop needs for audio. One thread
takes the lock from the loop for a few milliseconds at a time; each further thread adds to that. See
docs/decisions/0023-checks.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar
from uuid import UUID

MAX_WAITING = 100
"""Maximum number of checks of one account that wait or run."""

WAIT_S = 20.0
"""How long a check may wait for the thread, in seconds."""

ParamsT = ParamSpec("ParamsT")
ResultT = TypeVar("ResultT")


class TooManyChecks(Exception):
    """An account has too many checks at once, or the thread is busy; the same request may succeed later."""


class CheckPool:
    """Runs functions in the one thread for checks, in turns: one of each account that waits."""

    def __init__(self, *, max_waiting: int = MAX_WAITING, wait_s: float = WAIT_S) -> None:
        """Create a pool; its thread starts with the first check."""
        self._max_waiting = max_waiting
        self._wait_s = wait_s
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="checks")
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
        """Run a function of bounded cost in the thread.

        Raises:
            TooManyChecks: the account has ``MAX_WAITING`` checks already, or the wait took too long.
        """
        if self._waiting[account_id] >= self._max_waiting:
            raise TooManyChecks(f"{self._max_waiting} checks of this account are waiting already.")
        self._waiting[account_id] += 1
        try:
            async with self._turn_of(account_id):
                loop = asyncio.get_running_loop()
                running = loop.run_in_executor(self._executor, lambda: function(*args, **named))
                try:
                    return await asyncio.shield(running)
                except asyncio.CancelledError:
                    # The thread works on: the turn is over when it has finished.
                    await asyncio.wait([running])
                    raise
        finally:
            self._waiting[account_id] -= 1
            if not self._waiting[account_id]:
                del self._waiting[account_id]
                self._turns_of.pop(account_id, None)

    def close(self) -> None:
        """Discard the checks that have not begun."""
        self._executor.shutdown(wait=False, cancel_futures=True)

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
