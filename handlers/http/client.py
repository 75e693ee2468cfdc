"""The HTTP client of the functions: time limit, retries, redirects, and a limit of the response size."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache

import httpcore
import httpx

from handlers.http.errors import SAFE_METHODS, NoAnswer, RedirectRefused, Unreachable
from handlers.http.network import CheckedNetwork
from handlers.http.request import DEFAULT_PORTS, HttpRequest, HttpResponse, Origin

READ_LIMIT = 128 * 1024
"""Maximum bytes read of a response: more than the model receives, because ``keep`` uses all of it."""

MAX_REDIRECTS = 3
FIRST_PAUSE_S = 0.1
MAX_CONNECTIONS = 500
_MAX_RETRY_DIGITS = 9
KEEP_ALIVE_S = 4.0
"""Shorter than the usual keep-alive of servers: a request on a connection that is being closed is lost."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_METHOD_KEEPING_STATUSES = frozenset({307, 308})
_FORWARDED_HEADERS = frozenset({"accept", "user-agent"})
_RETRY_STATUSES = frozenset({429, 502, 503, 504})
_CONNECTION_ERRORS = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)


@cache
def public_tls() -> ssl.SSLContext:
    """The TLS settings with the public certificate authorities, which all connections of a process share.

    Reading the certificates takes tens of ms of CPU time, once.
    """
    return httpcore.default_ssl_context()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """A response, and the headers for redirects and retries."""

    reply: HttpResponse
    location: str | None
    retry_after: str | None


class HttpClient:
    """Client for all calls of a process. Calls share connections, but no cookies and no cache."""

    def __init__(self, network: CheckedNetwork, *, tls: ssl.SSLContext | None = None) -> None:
        """Create a client without open connections.

        Args:
            network: opens the connections.
            tls: TLS settings with the trusted certificates; None: the public certificate authorities.
        """
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or public_tls(),
            max_connections=MAX_CONNECTIONS,
            keepalive_expiry=KEEP_ALIVE_S,
            network_backend=network,
        )

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send a request, follow redirects and retry where allowed, within ``request.timeout_ms``.

        Returns:
            The last response, with any status and at most ``request.read_limit`` bytes of body.

        Raises:
            HttpFailure: there is no response: ``NoAnswer``, ``Unreachable``, ``AddressRefused`` or
                ``RedirectRefused``.
        """
        deadline = asyncio.get_running_loop().time() + request.timeout_ms / 1000
        try:
            async with asyncio.timeout_at(deadline):
                return await self._try(request, deadline)
        except TimeoutError:
            raise NoAnswer(request.method, request.timeout_ms) from None

    async def download(self, url: str, limit: int, timeout_ms: int) -> HttpResponse:
        """Get ``url``, at most ``limit`` bytes of it, in ``timeout_ms`` ms including redirects.

        Raises:
            HttpFailure: there is no response, or the URL is not a plain http or https address.
        """
        parsed = _parsed(url)
        headers = (("Accept", "*/*"), ("User-Agent", "voicebot"))
        request = HttpRequest(
            method="GET", origin=_origin(parsed), target=parsed.raw_path.decode("ascii"), headers=headers,
            secret_headers=(), body=None, timeout_ms=timeout_ms, retries=1, read_limit=limit,
        )  # fmt: skip
        return await self.send(request)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_ms: int) -> HttpResponse:
        """Post JSON to ``url``, once, in ``timeout_ms`` ms.

        Raises:
            HttpFailure: there is no response, or the URL is not a plain http or https address.
        """
        parsed = _parsed(url)
        given = (("Content-Type", "application/json"), ("Accept", "application/json"), *headers.items())
        request = HttpRequest(
            method="POST", origin=_origin(parsed), target=parsed.raw_path.decode("ascii"),
            headers=(("User-Agent", "voicebot"), *given), secret_headers=(), body=body,
            timeout_ms=timeout_ms, retries=0,
        )  # fmt: skip
        return await self.send(request)

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    async def _try(self, request: HttpRequest, deadline: float) -> HttpResponse:
        pause = FIRST_PAUSE_S
        for left in range(request.retries, -1, -1):
            outcome = await self._attempt(request)
            wait = _retry_delay(outcome, pause)
            if wait is None or not left or asyncio.get_running_loop().time() + wait >= deadline:
                break
            await asyncio.sleep(wait)
            pause *= 2
        if isinstance(outcome, Unreachable):
            raise outcome
        return outcome.reply

    async def _attempt(self, request: HttpRequest) -> _Answer | Unreachable:
        try:
            return await self._follow(request)
        except Unreachable as failure:
            return failure

    async def _follow(self, request: HttpRequest) -> _Answer:
        hop, sent = request, False
        for _ in range(MAX_REDIRECTS + 1):
            try:
                answer = await self._exchange(hop)
            except Unreachable as failure:
                # The model must know whether its request may have reached a server, also before a redirect.
                raise Unreachable(request.method, sent=sent or failure.sent) from None
            if answer.reply.status not in REDIRECTS or answer.location is None:
                return answer
            hop, sent = redirected(hop, answer.reply.status, answer.location), True
        raise RedirectRefused(f"more than {MAX_REDIRECTS} times")

    async def _exchange(self, request: HttpRequest) -> _Answer:
        """Send one request and read its response, without redirects and retries."""
        sent = False

        async def trace(event: str, _info: object) -> None:
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
                return await _read(response, request.read_limit or READ_LIMIT)
        except _CONNECTION_ERRORS:
            raise Unreachable(request.method, sent=sent) from None


def redirected(request: HttpRequest, status: int, location: str) -> HttpRequest:
    """The request that follows a redirect (RFC 9110, section 15.4).

    After 303, and for unsafe methods also after 301 and 302, it is a GET without a body. The author's headers
    and the body are for the declared server: they are not sent to another scheme, host or port.

    Raises:
        RedirectRefused: the location is not an http address, leads from https to http, or would send an
            unsafe request to another server.
    """
    url = _absolute(request, location)
    origin = _origin(url)
    if request.origin.scheme == "https" and origin.scheme != "https":
        raise RedirectRefused("from https to http")
    method = request.method
    if method not in SAFE_METHODS and status not in _METHOD_KEEPING_STATUSES:
        method = "GET"
    hop = replace(request, method=method, origin=origin, target=url.raw_path.decode("ascii"))
    if method in SAFE_METHODS:
        hop = replace(hop, body=None, headers=_without_content(hop))
    if origin == request.origin:
        return hop
    if method not in SAFE_METHODS:
        raise RedirectRefused("to another server, which is not allowed for this method")
    kept = tuple((name, value) for name, value in hop.headers if name.lower() in _FORWARDED_HEADERS)
    return replace(hop, headers=kept, secret_headers=())


def _absolute(request: HttpRequest, location: str) -> httpx.URL:
    origin = request.origin
    base = httpx.URL(
        scheme=origin.scheme, host=origin.host, port=origin.port, raw_path=request.target.encode("ascii")
    )
    try:
        return base.join(location)
    except (httpx.InvalidURL, ValueError):
        raise RedirectRefused("to an invalid address") from None


def _parsed(url: str) -> httpx.URL:
    try:
        return httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise RedirectRefused("to an invalid address") from None


def _origin(url: httpx.URL) -> Origin:
    if url.scheme not in DEFAULT_PORTS or not url.raw_host or url.userinfo:
        raise RedirectRefused("to an address that is not plain http or https")
    return Origin(url.scheme, url.raw_host.decode("ascii"), url.port or DEFAULT_PORTS[url.scheme])


def _without_content(request: HttpRequest) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in request.headers if not name.lower().startswith("content-"))


def _retry_delay(outcome: _Answer | Unreachable, pause: float) -> float | None:
    """Seconds to wait before a retry, or None if the outcome is final."""
    if isinstance(outcome, Unreachable):
        return pause
    if outcome.reply.status not in _RETRY_STATUSES:
        return None
    requested = retry_after(outcome.retry_after, datetime.now(UTC)) or timedelta(0)
    return max(pause, requested.total_seconds())


async def _read(response: httpcore.Response, limit: int) -> _Answer:
    headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) > limit:
            break
    return _Answer(
        reply=HttpResponse(
            status=response.status,
            content_type=headers.get(b"content-type", ""),
            content_encoding=headers.get(b"content-encoding", ""),
            body=bytes(body[:limit]),
            complete=len(body) <= limit,
        ),
        location=headers.get(b"location"),
        retry_after=headers.get(b"retry-after"),
    )


def _url(request: HttpRequest) -> httpcore.URL:
    origin = request.origin
    return httpcore.URL(
        scheme=origin.scheme.encode(),
        host=origin.host.encode(),
        port=origin.port,
        target=request.target.encode("ascii"),
    )


def _wire_headers(request: HttpRequest) -> list[tuple[bytes, bytes]]:
    """Headers as bytes: names in ASCII, values in UTF-8. Compression is refused to limit the body's size."""
    own = [("Host", request.origin.host_header()), ("Accept-Encoding", "identity")]
    if request.body is not None or request.method not in SAFE_METHODS:
        own.append(("Content-Length", str(len(request.body or b""))))
    headers = [*own, *request.headers, *request.secret_headers]
    return [(name.encode("ascii", "replace"), value.encode()) for name, value in headers]


def retry_after(value: str | None, now: datetime) -> timedelta | None:
    """The time that ``Retry-After`` asks for, from ``now`` (RFC 9110, section 10.2.3: seconds or a date).

    Returns:
        None if the header is absent or has another form. Of a number, the first nine digits count.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=int(text[:_MAX_RETRY_DIGITS]))
    try:
        at = parsedate_to_datetime(text)
        return max(timedelta(0), (at if at.tzinfo else at.replace(tzinfo=UTC)) - now)
    except (ValueError, OverflowError):
        return None
