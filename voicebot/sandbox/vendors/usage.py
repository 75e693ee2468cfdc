"""The recorded use of the servers: requests and connections with their times, for the assertions of tests."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from voicebot.sandbox.vendors.faults import Server

_KEPT = 5000


@dataclass(slots=True, kw_only=True)
class Connection:
    """One websocket. `key` is the voice or the model; times are seconds since the epoch."""

    server: Server
    key: str
    path: str
    opened_at: float
    closed_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request: an HTTP request, a text to speak, or a recognised utterance; `body` is its content."""

    server: Server
    key: str
    at: float
    path: str
    characters: int
    body: Any = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Sums over connections and requests."""

    opened: int
    open: int
    requests: int
    characters: int


class Usage:
    """The last 5,000 connections and requests of the servers."""

    def __init__(self) -> None:
        self._connections: deque[Connection] = deque(maxlen=_KEPT)
        self._requests: deque[Request] = deque(maxlen=_KEPT)
        self._cuts: dict[int, tuple[Connection, Callable[[], None]]] = {}

    @contextmanager
    def connection(
        self, server: Server, key: str, path: str, cut: Callable[[], None]
    ) -> Iterator[Connection]:
        """Record a websocket that is open while the block runs; `cut` aborts it."""
        connection = Connection(server=server, key=key, path=path, opened_at=time.time())
        self._connections.append(connection)
        self._cuts[id(connection)] = connection, cut
        try:
            yield connection
        finally:
            connection.closed_at = time.time()
            del self._cuts[id(connection)]

    def sever(self, server: Server, key: str | None = None) -> int:
        """Abort the open websockets of a server, or of one voice or model; return how many there were."""
        struck = [cut for connection, cut in self._cuts.values() if _of(connection, server, key)]
        for cut in struck:
            cut()
        return len(struck)

    def request(self, server: Server, key: str, path: str, body: Any, characters: int = 0) -> None:
        """Record a request."""
        self._requests.append(
            Request(server=server, key=key, at=time.time(), path=path, characters=characters, body=body)
        )

    def connections(self, server: Server | None = None, key: str | None = None) -> list[Connection]:
        """Return the websockets in the order they were opened."""
        return [c for c in self._connections if _of(c, server, key)]

    def requests(self, server: Server | None = None, key: str | None = None) -> list[Request]:
        """Return the requests in order."""
        return [r for r in self._requests if _of(r, server, key)]

    def tally(self, server: Server | None = None, key: str | None = None) -> Tally:
        """Return the sums of a server, or of one of its voices or models."""
        connections, requests = self.connections(server, key), self.requests(server, key)
        return Tally(
            opened=len(connections),
            open=sum(connection.closed_at is None for connection in connections),
            requests=len(requests),
            characters=sum(request.characters for request in requests),
        )

    def keys(self, server: Server | None = None) -> list[str]:
        """Return the voices or models that were used, sorted."""
        return sorted({c.key for c in self.connections(server)} | {r.key for r in self.requests(server)})

    def clear(self) -> None:
        """Remove everything but the open connections."""
        still_open = [c for c in self._connections if c.closed_at is None]
        self._connections.clear()
        self._connections.extend(still_open)
        self._requests.clear()


def _of(record: Connection | Request, server: Server | None, key: str | None) -> bool:
    return (server is None or record.server == server) and (key is None or record.key == key)
