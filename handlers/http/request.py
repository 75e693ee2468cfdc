"""Builds the request of an HTTP function from its declaration and values. There is no I/O in this module.

Scheme, host and port are read from the declaration before values are inserted, and values are never parsed as
part of a URL. Therefore no value from a caller or a model can send a request to another server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import httpx

from handlers.http.errors import InvalidArguments, InvalidDeclaration
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
_DEFAULT_HEADERS = {"Accept": "application/json, text/*;q=0.9, */*;q=0.1", "User-Agent": "voicebot"}
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_PATH_LITERALS = "/%:@!$&'()*+,;=~"
_QUERY_LITERALS = _PATH_LITERALS + "?"


@dataclass(frozen=True, slots=True)
class Origin:
    """Origin of a URL. ``host`` is ASCII: a name in IDNA form, or an address without brackets."""

    scheme: str
    host: str
    port: int

    def host_header(self) -> str:
        """The value of the ``Host`` header (RFC 9110, section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A complete request.

    Attributes:
        method: HTTP method.
        origin: scheme, host and port.
        target: path and query, percent-encoded ASCII, beginning with ``/``.
        headers: the author's headers and defaults, without ``Host`` and ``Content-Length``.
        secret_headers: decrypted headers; sent to ``origin`` only, and never in a log or a ``repr``.
        body: JSON in UTF-8, or None.
        timeout_ms: time limit in ms for the whole exchange, including redirects and retries.
        retries: maximum number of retries; 0 for unsafe methods.
        read_limit: maximum number of bytes read of the response; None: ``client.READ_LIMIT``.
    """

    method: str
    origin: Origin
    target: str = field(repr=False)
    headers: Headers = field(repr=False)
    secret_headers: Headers = field(repr=False)
    body: bytes | None = field(repr=False)
    timeout_ms: int
    retries: int
    read_limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """A response.

    Attributes:
        status: HTTP status.
        content_type: value of the header, or "".
        content_encoding: value of the header, or "". Compression is not requested.
        body: the first bytes of the body, as many as the request's limit allows.
        complete: whether ``body`` is the whole body.
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
    decrypt_secret: Callable[[str], str],
) -> HttpRequest:
    """Build the request of a function.

    Args:
        declaration: the function.
        arguments: validated arguments. A declared parameter hides a variable of the same name, even if it is
            not given.
        variables: the current agent's variables.
        decrypt_secret: decrypts the stored value of a secret header.

    Raises:
        InvalidArguments: a value for the path is empty or contains a ``..`` segment.
        InvalidDeclaration: the URL is invalid, its host contains a placeholder, or a header name is invalid.
    """
    values = insertable_values(declaration, arguments, variables)
    decrypted = {name: decrypt_secret(value) for name, value in declaration.secret_headers.items()}
    body = _body(declaration, arguments, values)
    headers = {**_DEFAULT_HEADERS, **({"Content-Type": "application/json"} if body is not None else {})}
    secret = _headers(decrypted, values)
    safe = declaration.method in ("GET", "HEAD")
    return HttpRequest(
        method=declaration.method,
        origin=origin_of(declaration.url),
        target=_target(declaration, arguments, values),
        headers=_without(_merged(headers, _headers(declaration.headers, values)), secret),
        secret_headers=secret,
        body=body,
        timeout_ms=_within(declaration.timeout_ms, TIMEOUT_MS),
        retries=_within(declaration.retries, RETRIES) if safe else 0,
    )


def insertable_values(
    declaration: HttpFunction, arguments: Mapping[str, Any], variables: Mapping[str, Any]
) -> dict[str, Any]:
    """Name → value of everything that the function's placeholders may insert."""
    parameters, _ = declared_parameters(declaration.parameters)
    return {**variables, **dict.fromkeys(parameters), **arguments}


def origin_of(url: str) -> Origin:
    """Scheme, host and port of a declared URL.

    Raises:
        InvalidDeclaration: the URL is not a complete http or https address, or its host is not fixed.
    """
    try:
        parts = urlsplit(url)
        if not parts.hostname or "{" in parts.netloc or "@" in parts.netloc:
            raise InvalidDeclaration("Not done: the function's URL has no fixed host.")
        # httpx turns a name into the ASCII form that DNS knows (IDNA).
        parsed = httpx.URL(f"{parts.scheme}://{parts.netloc}/")
        return Origin(
            parsed.scheme, parsed.raw_host.decode("ascii"), parsed.port or DEFAULT_PORTS[parsed.scheme]
        )
    except (ValueError, KeyError, httpx.InvalidURL):
        raise InvalidDeclaration(
            "Not done: the function's URL is not a complete http or https address."
        ) from None


def _target(declaration: HttpFunction, arguments: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    parts = urlsplit(declaration.url)
    segments = [_segment(segment, values) for segment in parts.path.split("/")]
    path = quote("/".join(segments), safe=_PATH_LITERALS) or "/"
    own = quote(_insert(parts.query, values, _percent), safe=_QUERY_LITERALS)
    added = [(name, render(text, values)) for name, text in declaration.query.items()]
    if declaration.method not in BODY_METHODS and declaration.body is None:
        inserted = _inserted_names(declaration)
        added += [
            (name, str(PromptValue(value))) for name, value in arguments.items() if name not in inserted
        ]
    query = "&".join(
        filter(None, (own, urlencode([(name, _encodable(text)) for name, text in added], quote_via=quote)))
    )
    return f"{path}?{query}" if query else path


def _segment(segment: str, values: Mapping[str, Any]) -> str:
    """One segment of the path with its values inserted; it always remains one segment.

    An empty segment or a dot segment would name another resource. Some servers decode percent-encoding before
    they resolve ``..``, so the decoded form is checked.
    """
    names = placeholders(segment)
    if not names:
        return _insert(segment, values, _percent)
    inserted = _insert(segment, values, _percent)
    if not inserted or any(part in (".", "..") for part in re.split(r"[/\\]", unquote(inserted))):
        raise InvalidArguments([f"{names[0]}: is empty or not allowed in the path of the address"])
    return inserted


def _inserted_names(declaration: HttpFunction) -> set[str]:
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
        filled = _fill_placeholders(declaration.body, values)
    return None if filled is None else _encodable(json.dumps(filled, ensure_ascii=False)).encode()


def _fill_placeholders(value: Any, values: Mapping[str, Any]) -> Any:
    """Insert values into the body. A string that is a single placeholder becomes the value, with its type."""
    if isinstance(value, Mapping):
        return {key: _fill_placeholders(inner, values) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_fill_placeholders(inner, values) for inner in value]
    if not isinstance(value, str):
        return value
    only_placeholder = PLACEHOLDER.fullmatch(value.strip())
    return (
        _value(only_placeholder.group(2), values)
        if only_placeholder and not only_placeholder.group(1)
        else render(value, values)
    )


def _value(path: str, values: Mapping[str, Any]) -> Any:
    current: Any = values
    for part in path.split("."):
        current = current.get(part) if isinstance(current, Mapping) else None
    return current


def _headers(declared: Mapping[str, str], values: Mapping[str, Any]) -> Headers:
    """Headers with values inserted; control characters in values become spaces."""
    if not all(_HEADER_NAME.fullmatch(name) for name in declared):
        raise InvalidDeclaration("Not done: the function has a header with an invalid name.")
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
    """``values.render`` with every inserted value passed through ``escape``."""
    return PLACEHOLDER.sub(lambda match: escape(render(match.group(0), values)), text)


def _percent(text: str) -> str:
    return quote(_encodable(text), safe="")


def _encodable(text: str) -> str:
    """The text with lone surrogates replaced: JSON can contain them, UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _within(value: int, bounds: tuple[int, int]) -> int:
    return max(bounds[0], min(value, bounds[1]))
