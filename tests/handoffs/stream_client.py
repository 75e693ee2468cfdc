"""A client of the event stream that reconnects and resumes as a browser's EventSource does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.api.server_fixture import http_client


@dataclass(slots=True)
class ServerSentEvent:
    """One server-sent event."""

    event: str
    id: int | None
    data: dict[str, Any]


@dataclass(slots=True)
class Follower:
    """Follows an account's stream over real sockets."""

    urls: list[str]
    """URLs of the replicas; each connection goes to the next one."""
    key: str
    last: int | None = None
    received: list[ServerSentEvent] = field(default_factory=list)
    connections: int = 0
    chance: random.Random | None = None
    """If given, the connection is closed after one event in twenty."""

    @property
    def seqs(self) -> list[int]:
        """The sequence numbers of the received events, in order."""
        return [one.data["seq"] for one in self.received if one.event != "reset"]

    async def follow(self, until: int) -> None:
        """Read until event ``until`` has arrived; reconnect when the connection ends."""
        while (self.last or 0) < until:
            with contextlib.suppress(httpx.HTTPError):
                async for one in self.connection():
                    if one.id is not None and one.id >= until:
                        return
                    if self.chance and self.chance.random() < 0.05:
                        break
            await asyncio.sleep(0.02)

    async def connection(self) -> AsyncIterator[ServerSentEvent]:
        """The events of one connection."""
        url = self.urls[self.connections % len(self.urls)]
        self.connections += 1
        headers = {"Authorization": f"Bearer {self.key}"}
        if self.last is not None:
            headers["Last-Event-ID"] = str(self.last)
        async with (
            http_client(timeout=httpx.Timeout(5, read=60)) as client,
            client.stream("GET", f"{url}/api/v1/handoffs/stream", headers=headers) as response,
        ):
            response.raise_for_status()
            async for one in events(response):
                self.received.append(one)
                self.last = one.id if one.id is not None else self.last
                yield one


async def events(response: httpx.Response) -> AsyncIterator[ServerSentEvent]:
    """The events of a response, without comments."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line.startswith((":", "retry")):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            number = fields.get("id")
            yield ServerSentEvent(
                fields["event"], None if number is None else int(number), json.loads(fields["data"])
            )
            fields = {}
