"""Carries a request to its server and brings the reply back: in time, bounded, and nowhere it may not go."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpcore

from handlers.http.errors import SAFE_METHODS, NoAnswer, RedirectRefused, Unreachable
from handlers.http.network import CheckedNetwork
from handlers.http.redirect import REDIRECTS, redirected
from handlers.http.request import Reply, Request

READ_LIMIT = 128 * 1024
"""How much of an answer is read, in bytes: more than a model is given, so that ``keep`` sees it whole."""

MAX_REDIRECTS = 3
FIRST_PAUSE_S = 0.1
MAX_CONNECTIONS = 500
KEEP_ALIVE_S = 4.0
"""Below what servers commonly keep an idle connection: reusing one that is being closed loses a request."""

_AGAIN = frozenset({429, 502, 503, 504})
_BROKEN = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """A reply and the headers that decide what happens next."""

    reply: Reply
    location: str | None
    retry_after: str | None


class HttpClient:
    """One a process; its connections are shared by all calls, nothing else is (no cookies, no cache)."""

    def __init__(self, network: CheckedNetwork, *, tls: ssl.SSLContext | None = None) -> None:
        """Make connections by ``network``.

        Args:
            tls: which certificates to trust; None: those of the public authorities.
        """
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or httpcore.default_ssl_context(),
            max_connections=MAX_CONNECTIONS,
            keepalive_expiry=KEEP_ALIVE_S,
            network_backend=network,
        )

    async def send(self, request: Request) -> Reply:
        """Send it, follow redirects, try again where that is allowed, all within ``request.timeout_ms``.

        Returns:
            The last reply, whatever its status; at most ``READ_LIMIT`` bytes of it.

        Raises:
            HttpFailure: there is no reply: ``NoAnswer``, ``Unreachable``, ``AddressRefused`` or
                ``RedirectRefused``.
        """
        deadline = asyncio.get_running_loop().time() + request.timeout_ms / 1000
        try:
            async with asyncio.timeout_at(deadline):
                return await self._try(request, deadline)
        except TimeoutError:
            raise NoAnswer(request.method, request.timeout_ms) from None

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    async def _try(self, request: Request, deadline: float) -> Reply:
        pause = FIRST_PAUSE_S
        for left in range(request.retries, -1, -1):
            outcome = await self._attempt(request)
            wait = _again_after(outcome, pause)
            if wait is None or not left or asyncio.get_running_loop().time() + wait >= deadline:
                break
            await asyncio.sleep(wait)
            pause *= 2
        if isinstance(outcome, Unreachable):
            raise outcome
        return outcome.reply

    async def _attempt(self, request: Request) -> _Answer | Unreachable:
        try:
            return await self._follow(request)
        except Unreachable as failure:
            return failure

    async def _follow(self, request: Request) -> _Answer:
        hop, sent = request, False
        for _ in range(MAX_REDIRECTS + 1):
            try:
                answer = await self._exchange(hop)
            except Unreachable as failure:
                # What counts for the model is whether the request it asked for has arrived anywhere.
                raise Unreachable(request.method, sent=sent or failure.sent) from None
            if answer.reply.status not in REDIRECTS or answer.location is None:
                return answer
            hop, sent = redirected(hop, answer.reply.status, answer.location), True
        raise RedirectRefused(f"more than {MAX_REDIRECTS} times")

    async def _exchange(self, request: Request) -> _Answer:
        """One request and one reply on one connection."""
        sent = False

        async def trace(event: str, info: object) -> None:
            nonlocal sent
            sent = sent or event.endswith("send_request_headers.started")

        try:
            async with self._pool.stream(
                request.method,
                _url(request),
                headers=_wire_headers(request),
                content=request.body,
                extensions={"trace": trace},
            ) as response:
                return await _read(response)
        except _BROKEN:
            raise Unreachable(request.method, sent=sent) from None


def _again_after(outcome: _Answer | Unreachable, pause: float) -> float | None:
    """Seconds to wait before another try, or None when this outcome stands."""
    if isinstance(outcome, Unreachable):
        return pause
    return max(pause, _seconds(outcome.retry_after)) if outcome.reply.status in _AGAIN else None


async def _read(response: httpcore.Response) -> _Answer:
    headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) > READ_LIMIT:
            break
    return _Answer(
        reply=Reply(
            status=response.status,
            content_type=headers.get(b"content-type", ""),
            content_encoding=headers.get(b"content-encoding", ""),
            body=bytes(body[:READ_LIMIT]),
            complete=len(body) <= READ_LIMIT,
        ),
        location=headers.get(b"location"),
        retry_after=headers.get(b"retry-after"),
    )


def _url(request: Request) -> httpcore.URL:
    origin = request.origin
    return httpcore.URL(
        scheme=origin.scheme.encode(),
        host=origin.host.encode(),
        port=origin.port,
        target=request.target.encode("ascii"),
    )


def _wire_headers(request: Request) -> list[tuple[bytes, bytes]]:
    """Names in ASCII, values in UTF-8; bodies are asked for uncompressed, so that reading is bounded."""
    own = [("Host", request.origin.host_header()), ("Accept-Encoding", "identity")]
    if request.body is not None or request.method not in SAFE_METHODS:
        own.append(("Content-Length", str(len(request.body or b""))))
    headers = [*own, *request.headers, *request.secret_headers]
    return [(name.encode("ascii", "replace"), value.encode()) for name, value in headers]


def _seconds(retry_after: str | None) -> float:
    """``Retry-After`` in seconds from now (RFC 9110, 10.2.3: a number, or a date); 0 for none."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
