"""The limits of what clients may send and of what they may keep open.

docs/guides/deploy.md describes them. A request that exceeds one is refused with a problem that names it
(``limit_exceeded``), and counted in ``voicebot_limit_reached_total``.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

from telephony.webhook import MAX_FIELDS
from voicebot.api.problems import KINDS, ApiProblem

Limit = Literal[
    "target",
    "headers",
    "condition_header",
    "body",
    "upload",
    "json_depth",
    "json_values",
    "webhook_body",
    "webhook_fields",
    "header_deadline",
    "body_deadline",
    "connections",
    "descriptors",
    "connections_per_address",
    "media_handshakes",
    "streams_per_key",
    "streams_per_account",
    "checks",
    "chats",
    "chats_per_account",
]
"""The label ``limit`` in the metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one server process."""

    target_bytes: int = 8 * 1024
    """Path and query."""
    headers: int = 100
    header_bytes: int = 16 * 1024
    """Names and values of all headers of a request together."""
    condition_characters: int = 200
    """``If-Match`` or ``If-None-Match``."""
    body_bytes: int = 512 * 1024
    """A request of the API. The payload of a lead has at most 64 KiB of text."""
    json_depth: int = 64
    """Levels of arrays and objects in a JSON body."""
    json_values: int = 2000
    """Values in a JSON body, those of arrays and objects included."""
    document_bytes: int = 2 * 1024 * 1024
    """A template, a set of templates, or a text call. A template with 200 nodes has less than 200 KiB."""
    upload_bytes: int = 64 * 1024 * 1024
    """A file of leads, which is stored on disk and read line by line."""
    document_values: int = 200_000
    """Values in the JSON of a template or of a set. It is parsed in the process that checks templates."""
    chat_values: int = 6000
    """Values in the JSON of a text call."""
    webhook_body_bytes: int = 64 * 1024
    """A request of a carrier, and of any client outside the API."""
    webhook_fields: int = MAX_FIELDS
    """Fields in the form, and in the query, of a carrier's request."""
    header_deadline_s: float = 10.0
    """From the connection, or the end of the previous response, to the end of a request's headers."""
    body_deadline_s: float = 15.0
    """From the end of a request's headers to the end of its body."""
    connections: int = 1000
    """Connections of all kinds; never more than half of the descriptors that the process may open."""
    connections_per_address: int = 256
    """Connections without a WebSocket from one address (IPv6: /64) that is not a trusted proxy."""
    media_handshakes: int = 64
    """Media sockets that have not yet presented a valid token."""
    streams_per_key: int = 20
    streams_per_account: int = 200
    """Open event streams."""
    chats_per_account: int = 20
    chats: int = 200
    """Text calls of the API that a process holds."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """The limits of the body of one kind of request."""

    name: Limit
    size: int
    """In bytes."""
    values: int
    """Values in JSON."""


def body_limit(limits: Limits, route: str | None) -> BodyLimit:
    """The limit of a body: templates may be large, everything else is small.

    Args:
        limits: the limits of the process.
        route: the path of a request to the API without its prefix and leading slash; None: another request.
    """
    if route is None:
        return BodyLimit("webhook_body", limits.webhook_body_bytes, 0)
    if not route.startswith("templates"):
        return BodyLimit("body", limits.body_bytes, limits.json_values)
    values = limits.chat_values if route.endswith("/chat") else limits.document_values
    return BodyLimit("body", limits.document_bytes, values)


def limit_exceeded(limit: Limit, code: str, detail: str, *, retry_after_s: int | None = None) -> ApiProblem:
    """The problem of a request that exceeds a limit; the exception handlers count it."""
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    if KINDS[code].status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Connection"] = "close"
    return ApiProblem(code, detail, headers=headers, limit=limit)
