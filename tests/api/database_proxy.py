"""A connection to PostgreSQL that a test can freeze or cut, without harm to the other tests of the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

from voicebot.background import BackgroundTasks


class DatabaseProxy:
    """Forwards connections to a PostgreSQL server."""

    def __init__(self, dsn: str) -> None:
        """Forward to the server of ``dsn``."""
        self._dsn = dsn
        self._flows = asyncio.Event()
        self._flows.set()
        self._refuses = False
        self._tasks = BackgroundTasks()
        self._writers: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Forward from a free port; yields the DSN of the proxy."""
        server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        parts = urlsplit(self._dsn)
        user = parts.netloc.rpartition("@")[0] or "postgres:"
        try:
            yield parts._replace(netloc=f"{user}@127.0.0.1:{port}", query="").geturl()
        finally:
            self.restore()
            server.close()
            await self._tasks.finish()

    def freeze(self) -> None:
        """Answer nothing any more; connections stay open."""
        self._flows.clear()

    def cut(self) -> None:
        """Close all connections, and refuse new ones."""
        self._refuses = True
        for writer in list(self._writers):
            writer.close()

    def restore(self) -> None:
        """Forward again; data that was sent meanwhile arrives."""
        self._refuses = False
        self._flows.set()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.close()
            return
        far_reader, far_writer = await self._connect()
        self._writers |= {writer, far_writer}
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            self._tasks.start(self._pump(source, sink), name="forwarding", droppable=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self._dsn)
        directory = parse_qs(parts.query).get("host", [""])[0]
        if directory.startswith("/"):
            return await asyncio.open_unix_connection(f"{directory}/.s.PGSQL.{parts.port or 5432}")
        return await asyncio.open_connection(parts.hostname, parts.port or 5432)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
        sink.close()
        self._writers.discard(sink)
