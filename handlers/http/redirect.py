"""Where a server may send a request on to, and what it may take along."""

from __future__ import annotations

from dataclasses import replace

import httpx

from handlers.http.errors import SAFE_METHODS, RedirectRefused
from handlers.http.request import DEFAULT_PORTS, Origin, Request

REDIRECTS = frozenset({301, 302, 303, 307, 308})

_KEPT_METHOD = frozenset({307, 308})
_HARMLESS = frozenset({"accept", "user-agent"})


def redirected(request: Request, status: int, location: str) -> Request:
    """The request that follows a redirect (RFC 9110, 15.4).

    After 303, and for methods that change something after 301 and 302 too, it is a GET without a body.
    Another scheme, host or port gets none of the author's headers and no body: they were meant for the
    declared server.

    Raises:
        RedirectRefused: the location is no http address, leads from https to http, or would take a body or a
            change to another server.
    """
    url = _absolute(request, location)
    origin = _origin(url)
    if request.origin.scheme == "https" and origin.scheme != "https":
        raise RedirectRefused("to an address that is not encrypted")
    method = request.method
    if method not in SAFE_METHODS and status not in _KEPT_METHOD:
        method = "GET"
    hop = replace(request, method=method, origin=origin, target=url.raw_path.decode("ascii"))
    if method in SAFE_METHODS:
        hop = replace(hop, body=None, headers=_without_content(hop))
    if origin == request.origin:
        return hop
    if method not in SAFE_METHODS:
        raise RedirectRefused("to another server, which is not done with a request that changes something")
    kept = tuple((name, value) for name, value in hop.headers if name.lower() in _HARMLESS)
    return replace(hop, headers=kept, secret_headers=())


def _absolute(request: Request, location: str) -> httpx.URL:
    origin = request.origin
    base = httpx.URL(
        scheme=origin.scheme, host=origin.host, port=origin.port, raw_path=request.target.encode("ascii")
    )
    try:
        return base.join(location)
    except (httpx.InvalidURL, ValueError):
        raise RedirectRefused("to something that is no address") from None


def _origin(url: httpx.URL) -> Origin:
    if url.scheme not in DEFAULT_PORTS or not url.raw_host or url.userinfo:
        raise RedirectRefused("to something that is no plain http address")
    return Origin(url.scheme, url.raw_host.decode("ascii"), url.port or DEFAULT_PORTS[url.scheme])


def _without_content(request: Request) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in request.headers if not name.lower().startswith("content-"))
