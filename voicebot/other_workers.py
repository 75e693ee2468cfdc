"""Requests from one worker of a server to the others, over their Unix sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

import httpx

from voicebot.workers import Worker

WORKER_HEADER = "x-voicebot-worker"
"""The header of a request that another worker has sent or passed on; it counts on the Unix socket only."""

_CONNECT_S = 1.0


class OtherWorkers:
    """The other workers of this server; requests reach them over their Unix sockets."""

    def __init__(self, worker: Worker) -> None:
        """Connections are opened by the first request."""
        self.worker = worker
        self._clients: dict[int, httpx.AsyncClient] = {}

    async def ask(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_s: float,
    ) -> Mapping[int, httpx.Response]:
        """Send a request to all others at once.

        Args:
            method: the HTTP method.
            target: path and query.
            headers: more headers of the request.
            body: its body.
            timeout_s: how long an answer may take, in seconds.

        Returns:
            The answers by worker. One that does not answer is left out.
        """
        numbers = self.worker.others
        named = {**(headers or {}), WORKER_HEADER: str(self.worker.number)}
        asked = (self._ask(number, method, target, named, body, timeout_s) for number in numbers)
        answers = await asyncio.gather(*asked)
        return {number: answer for number, answer in zip(numbers, answers, strict=True) if answer is not None}

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()

    async def _ask(
        self, number: int, method: str, target: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> httpx.Response | None:
        timeout = httpx.Timeout(timeout_s, connect=_CONNECT_S)
        try:
            return await self._client(number).request(
                method, target, headers=dict(headers), content=body, timeout=timeout
            )
        except httpx.TransportError:
            return None

    def _client(self, number: int) -> httpx.AsyncClient:
        client = self._clients.get(number)
        if client is None:
            transport = httpx.AsyncHTTPTransport(
                # Nothing is encrypted here; without a context httpx would read all root certificates.
                verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                uds=str(self.worker.socket_of(number)),
                # A worker closes idle connections, possibly at the moment at which one is used again.
                limits=httpx.Limits(max_keepalive_connections=0),
            )
            client = httpx.AsyncClient(transport=transport, base_url=f"http://worker-{number}")
            self._clients[number] = client
        return client
