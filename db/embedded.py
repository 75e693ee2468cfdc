"""The embedded server: PostgreSQL without an installation, for a laptop, the demo and the tests.

Several processes may use one data directory at once. Who uses it holds a shared lock on a file beside it;
the one that finds nobody else holding it stops the server. The kernel drops the lock of a process that
dies, however it dies, so nothing stale is left to believe in: a server orphaned by ``kill -9`` is taken
over by the next process. Linux and macOS.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from db.cluster import Cluster, EmbeddedServerError

__all__ = ["EmbeddedServer", "EmbeddedServerError"]

_LOCK_SECONDS = 180


class EmbeddedServer:
    """``async with EmbeddedServer(data_dir) as dsn:`` a running server, shared with other processes.

    Made on first use under ``data_dir/postgres``; it listens on a Unix socket in a private directory only. As
    root it runs as the system user ``pgserver``, which is made if need be.
    """

    def __init__(self, data_dir: Path | str, *, settings: Mapping[str, str] | None = None) -> None:
        """Args:
        data_dir: the program's data directory (``VOICEBOT_DATA_DIR``); made if missing.
        settings: server settings (``{"max_connections": "200"}``), if this process starts the server.
        """
        self._dir = Path(data_dir).expanduser().resolve()
        self._cluster = Cluster(self._dir / "postgres", settings or {})
        self._use: int | None = None

    async def __aenter__(self) -> str:
        """Start or join the server; returns a DSN for asyncpg.

        Raises:
            EmbeddedServerError: it cannot be made or started.
        """
        opening = asyncio.create_task(asyncio.to_thread(self._open))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread cannot be interrupted: wait for what it started, then give it back.
            with contextlib.suppress(EmbeddedServerError):
                await opening
                await asyncio.to_thread(self._close)
            raise

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave; the last one out stops the server."""
        await asyncio.shield(asyncio.create_task(asyncio.to_thread(self._close)))

    def _open(self) -> str:
        try:
            self._dir.mkdir(parents=True, exist_ok=True)
            with self._turn():
                use = os.open(self._dir / "postgres.users", os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    fcntl.flock(use, fcntl.LOCK_SH)
                    dsn = self._cluster.ensure_running()
                except BaseException:
                    os.close(use)
                    raise
                self._use = use
                return dsn
        except OSError as error:
            raise EmbeddedServerError(f"The data directory {self._dir} cannot be used: {error}") from error

    def _close(self) -> None:
        if self._use is None:
            return
        with self._turn():
            use, self._use = self._use, None
            try:
                fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            else:
                self._cluster.stop()
            finally:
                os.close(use)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Only one process at a time starts, joins or leaves."""
        turn = os.open(self._dir / "postgres.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            deadline = time.monotonic() + _LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise EmbeddedServerError(
                            f"Another process has held {self._dir / 'postgres.lock'} for {_LOCK_SECONDS} s."
                        ) from None
                    time.sleep(0.02)
            yield
        finally:
            os.close(turn)
