"""A declaration and its values → the request to send. Pure: nothing is resolved or connected here.

Scheme, host and port are read from the declaration before any value is inserted, and no value is ever parsed
as part of a URL: so nothing that a caller or a model says can lead a request elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import httpx

from handlers.http.errors import InvalidArguments, Misdeclared
from templates.functions import HttpFunction
from templates.parameters import declared_parameters
from templates.values import PLACEHOLDER, PromptValue, placeholders, render

Headers = tuple[tuple[str, str], ...]

DEFAULT_PORTS = {"http": 80, "https": 443}
BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
TIMEOUT_MS = (100, 30_000)
RETRIES = (0, 3)

_RESERVED = frozenset(
    {
        *("accept-encoding", "connection", "content-length", "expect", "host"),
        *("te", "trailer", "transfer-encoding", "upgrade"),
    }
)
_OURS = {"Accept": "application/json, text/*;q=0.9, */*;q=0.1", "User-Agent": "voicebot"}
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_PATH_LITERALS = "/%:@!$&'()*+,;=~"
_QUERY_LITERALS = _PATH_LITERALS + "?"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request goes: ``host`` in ASCII (a name in IDNA form, or an address without brackets)."""

    scheme: str
    host: str
    port: int

    def host_header(self) -> str:
        """The value of ``Host`` (RFC 9110, 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, ready to be sent.

    Attributes:
        target: path and query, percent-encoded ASCII, beginning with ``/``.
        headers: the author's and ours, except ``Host`` and ``Content-Length``, each on one line.
        secret_headers: in plain text; they go to ``origin`` only, and not into a log or a ``repr``.
        body: JSON in UTF-8, or None for no body.
        timeout_ms: for everything, redirects and further tries included.
        retries: how often to try again; 0 for methods that change something.
    """

    method: str
    origin: Origin
    target: str = field(repr=False)
    headers: Headers = field(repr=False)
    secret_headers: Headers = field(repr=False)
    body: bytes | None = field(repr=False)
    timeout_ms: int
    retries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back.

    Attributes:
        content_type: as sent, or "".
        content_encoding: as sent, or "", though none was asked for.
        body: at most what the courier reads.
        complete: whether that is all there was.
    """

    status: int
    content_type: str = ""
    content_encoding: str = ""
    body: bytes = field(default=b"", repr=False)
    complete: bool = True


def build(
    declaration: HttpFunction,
    arguments: Mapping[str, Any],
    variables: Mapping[str, Any],
    open_secret: Callable[[str], str],
) -> Request:
    """The request that a function makes with these arguments on a call with these variables.

    Args:
        arguments: already validated. A declared parameter hides a variable of its name, given or not.
        open_secret: a stored secret header → its text.

    Raises:
        InvalidArguments: a value does not fit into the path, because it is empty or would leave its place.
        Misdeclared: the URL is none, its host contains a placeholder, or a header has no proper name.
    """
    values = visible(declaration, arguments, variables)
    opened = {name: open_secret(value) for name, value in declaration.secret_headers.items()}
    body = _body(declaration, arguments, values)
    headers = {**_OURS, **({"Content-Type": "application/json"} if body is not None else {})}
    secret = _headers(opened, values)
    safe = declaration.method in ("GET", "HEAD")
    return Request(
        method=declaration.method,
        origin=origin_of(declaration.url),
        target=_target(declaration, arguments, values),
        headers=_without(_merged(headers, _headers(declaration.headers, values)), secret),
        secret_headers=secret,
        body=body,
        timeout_ms=_within(declaration.timeout_ms, TIMEOUT_MS),
        retries=_within(declaration.retries, RETRIES) if safe else 0,
    )


def visible(
    declaration: HttpFunction, arguments: Mapping[str, Any], variables: Mapping[str, Any]
) -> dict[str, Any]:
    """The values that the function's texts may insert, by name."""
    parameters, _ = declared_parameters(declaration.parameters)
    return {**variables, **dict.fromkeys(parameters), **arguments}


def origin_of(url: str) -> Origin:
    """Scheme, host and port of a declared URL.

    Raises:
        Misdeclared: it is not a whole http or https address, or its host is not fixed.
    """
    try:
        parts = urlsplit(url)
        if not parts.hostname or "{" in parts.netloc or "@" in parts.netloc:
            raise Misdeclared("Not done: the function's URL has no fixed host.")
        # httpx turns a name into the ASCII form that DNS knows (IDNA).
        parsed = httpx.URL(f"{parts.scheme}://{parts.netloc}/")
        return Origin(
            parsed.scheme, parsed.raw_host.decode("ascii"), parsed.port or DEFAULT_PORTS[parsed.scheme]
        )
    except (ValueError, KeyError, httpx.InvalidURL):
        raise Misdeclared("Not done: the function's URL is not a whole http or https address.") from None


def _target(declaration: HttpFunction, arguments: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    parts = urlsplit(declaration.url)
    segments = [_segment(segment, values) for segment in parts.path.split("/")]
    path = quote("/".join(segments), safe=_PATH_LITERALS) or "/"
    own = quote(_insert(parts.query, values, _percent), safe=_QUERY_LITERALS)
    added = [(name, render(text, values)) for name, text in declaration.query.items()]
    if declaration.method not in BODY_METHODS and declaration.body is None:
        mentioned = _mentioned(declaration)
        added += [
            (name, str(PromptValue(value))) for name, value in arguments.items() if name not in mentioned
        ]
    query = "&".join(
        filter(None, (own, urlencode([(name, _encodable(text)) for name, text in added], quote_via=quote)))
    )
    return f"{path}?{query}" if query else path


def _segment(segment: str, values: Mapping[str, Any]) -> str:
    """One segment of the path, which stays one, whatever is inserted.

    Empty or made of dots it would name another resource; some servers undo percent-encoding before they look
    for ``..``, so that is looked for in the decoded form.
    """
    names = placeholders(segment)
    if not names:
        return _insert(segment, values, _percent)
    inserted = _insert(segment, values, _percent)
    if not inserted or any(part in (".", "..") for part in re.split(r"[/\\]", unquote(inserted))):
        raise InvalidArguments([f"{names[0]}: is empty or has no place in the server's address"])
    return inserted


def _mentioned(declaration: HttpFunction) -> set[str]:
    texts = (
        declaration.url,
        *declaration.query.values(),
        *declaration.headers.values(),
    )
    return {path.partition(".")[0] for text in texts for path in placeholders(text)}


def _body(declaration: HttpFunction, arguments: Mapping[str, Any], values: Mapping[str, Any]) -> bytes | None:
    if declaration.method in ("GET", "HEAD"):
        return None
    if declaration.body is None:
        filled: Any = dict(arguments) if declaration.method in BODY_METHODS else None
    else:
        filled = _filled(declaration.body, values)
    return None if filled is None else _encodable(json.dumps(filled, ensure_ascii=False)).encode()


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    """The body filled in; a text that is nothing but a placeholder becomes the value, in its type."""
    if isinstance(value, Mapping):
        return {key: _filled(inner, values) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(inner, values) for inner in value]
    if not isinstance(value, str):
        return value
    alone = PLACEHOLDER.fullmatch(value.strip())
    return _value(alone.group(2), values) if alone and not alone.group(1) else render(value, values)


def _value(path: str, values: Mapping[str, Any]) -> Any:
    current: Any = values
    for part in path.split("."):
        current = current.get(part) if isinstance(current, Mapping) else None
    return current


def _headers(declared: Mapping[str, str], values: Mapping[str, Any]) -> Headers:
    """Headers on one line each: whatever would end a line becomes a space."""
    if not all(_HEADER_NAME.fullmatch(name) for name in declared):
        raise Misdeclared("Not done: a header of the function has a name that cannot be sent.")
    return tuple(
        (name, _CONTROL.sub(" ", _encodable(render(text, values))).strip())
        for name, text in declared.items()
        if name.lower() not in _RESERVED
    )


def _merged(ours: Mapping[str, str], authors: Headers) -> Headers:
    return (*_without(tuple(ours.items()), authors), *authors)


def _without(headers: Headers, others: Headers) -> Headers:
    taken = {name.lower() for name, _ in others}
    return tuple((name, value) for name, value in headers if name.lower() not in taken)


def _insert(text: str, values: Mapping[str, Any], escape: Callable[[str], str]) -> str:
    """``values.render`` with every inserted value escaped for where it stands."""
    return PLACEHOLDER.sub(lambda match: escape(render(match.group(0), values)), text)


def _percent(text: str) -> str:
    return quote(_encodable(text), safe="")


def _encodable(text: str) -> str:
    """The text without lone surrogates, which JSON can spell and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _within(value: int, bounds: tuple[int, int]) -> int:
    return max(bounds[0], min(value, bounds[1]))
