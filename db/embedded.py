"""The embedded server: PostgreSQL without an installation, for development, the demo and the tests.

Several processes can use one data directory. Each holds a shared lock on a file beside it; a process that
leaves and gets the exclusive lock stops the server. The kernel releases the lock of a killed process, so a
server whose processes were killed is used again by the next process. Linux and macOS.
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
    """A running server that is shared with other processes: ``async with EmbeddedServer(data_dir) as dsn:``.

    The data is in ``data_dir/postgres``, which is created if missing. The server listens only on a Unix
    socket in a private directory. If this process runs as root, the server runs as the system user
    ``pgserver``, which is created if missing.
    """

    def __init__(self, data_dir: Path | str, *, settings: Mapping[str, str] | None = None) -> None:
        """Args:
        data_dir: the program's data directory (``VOICEBOT_DATA_DIR``); created if missing.
        settings: server settings (``{"max_connections": "200"}``), used if this process starts the server.
        """
        self._dir = Path(data_dir).expanduser().resolve()
        self._cluster = Cluster(self._dir / "postgres", settings or {})
        self._users_lock: int | None = None

    async def __aenter__(self) -> str:
        """Start the server if it is not running; return a DSN for asyncpg.

        Raises:
            EmbeddedServerError: the server cannot be created or started.
        """
        opening = asyncio.create_task(asyncio.to_thread(self.open))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread cannot be interrupted: wait until the server is started, then release it.
            with contextlib.suppress(EmbeddedServerError):
                await opening
                await asyncio.to_thread(self.close)
            raise

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the server; the last process stops it."""
        await asyncio.shield(asyncio.create_task(asyncio.to_thread(self.close)))

    def open(self) -> str:
        """Start the server if it is not running; return a DSN for asyncpg. Blocks.

        Raises:
            EmbeddedServerError: the server cannot be created or started.
        """
        try:
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._exclusive_lock():
                users_lock = os.open(self._dir / "postgres.users", os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    fcntl.flock(users_lock, fcntl.LOCK_SH)
                    dsn = self._cluster.ensure_running()
                except BaseException:
                    os.close(users_lock)
                    raise
                self._users_lock = users_lock
                return dsn
        except OSError as error:
            raise EmbeddedServerError(f"The data directory {self._dir} cannot be used: {error}") from error

    def close(self) -> None:
        """Release the server; the last process stops it. Blocks."""
        if self._users_lock is None:
            return
        with self._exclusive_lock():
            users_lock, self._users_lock = self._users_lock, None
            try:
                fcntl.flock(users_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            else:
                self._cluster.stop()
            finally:
                os.close(users_lock)

    @contextlib.contextmanager
    def _exclusive_lock(self) -> Iterator[None]:
        """Exclusive lock for starting, joining and releasing the server."""
        lock_file = os.open(self._dir / "postgres.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            deadline = time.monotonic() + _LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise EmbeddedServerError(
                            f"Another process has held {self._dir / 'postgres.lock'} for {_LOCK_SECONDS} s."
                        ) from None
                    time.sleep(0.02)
            yield
        finally:
            os.close(lock_file)
