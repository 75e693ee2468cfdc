"""/handoffs/stream: the account's events as server-sent events, in order and without a gap.

The format is that of https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import Header, Query, Request, Response, Security
from fastapi.security import HTTPAuthorizationCredentials
from loguru import logger
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from db import keys, stream_tokens
from db.errors import DatabaseError, KeyRefused
from db.handoff_events import HandoffEventRecord
from voicebot.api.access import BEARER, Principal, Reader, authenticate, unauthorized
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.documentation import refuses
from voicebot.api.open_streams import OpenStream
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.api.resource_router import resource_router
from voicebot.api.signed_token import EVENT_STREAM, TokenRefused
from voicebot.handoffs.event_broker import Heartbeat, Item, Reset

router = resource_router("/handoffs", "handoffs")

_CHUNK_CHARACTERS = 32 * 1024
_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    # nginx buffers responses otherwise: https://nginx.org/en/docs/http/ngx_http_proxy_module.html
    "X-Accel-Buffering": "no",
}
_HIGHEST_SEQ = 2**63 - 1

_RENEW_EVERY = timedelta(seconds=10)
_RENEWED_LIFETIME = timedelta(minutes=5)
"""How long after the last heartbeat of a stream a client can reconnect with its token."""
_LONGEST_LIFETIME = timedelta(days=7)
"""How long a token can be renewed."""


def _sse(name: str, data: Mapping[str, Any], id: int) -> str:
    """One server-sent event; its data is one line of JSON."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return f"id: {id}\nevent: {name}\ndata: {text}\n\n"


_EXAMPLE = _sse(
    "handoff.offered",
    {
        "seq": 42,
        "type": "handoff.offered",
        "at": "2026-03-01T12:00:00+00:00",
        "handoff_id": "019aa2c4-7c1e-7a52-9d5b-0f8d7a4b1c2d",
        "call_id": None,
        "actor_id": None,
        "data": {"intent": "escalate", "state": "offered", "priority": "high"},
    },
    42,
)
_ENDLESS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events; the response does not end.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
    }
}


class StreamToken(BaseModel):
    """A token for the stream."""

    token: str
    expires_at: datetime


@router.post("/stream-token", status_code=201, responses=refuses())
async def create_stream_token(state: AppStateDep, reader: Reader) -> StreamToken:
    """Create a token for `GET /handoffs/stream?token=…`, for clients without headers.

    It is valid for a minute. A stream that is open renews it, so that a client can reconnect with the same
    address until five minutes after the last heartbeat.
    """
    now = state.clock.now()
    token = state.stream_tokens.issue(reader.account_id, reader.key_id, now)
    return StreamToken(token=token, expires_at=now + EVENT_STREAM.lifetime)


@router.get(
    "/stream", response_class=Response, responses=_ENDLESS | refuses("invalid_request", "rate_limited")
)
async def stream(
    state: AppStateDep,
    request: Request,
    _: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)] = None,
    token: Annotated[
        str | None, Query(max_length=500, description="Instead of the Authorization header.")
    ] = None,
    after: Annotated[str | None, Query(max_length=20, description="Instead of `Last-Event-ID`.")] = None,
    last_event_id: Annotated[str | None, Header(max_length=20, description="The last `id` received.")] = None,
) -> Response:
    """Stream the account's events of handoffs and operators, in order and without a gap.

    Begins after `Last-Event-ID` (or `?after=`); without either, with the next event. The event `reset` means
    that the events after that id were deleted: read the queue and continue from its `as_of_seq`. Comments are
    heartbeats.
    """
    if token:
        follower = await _principal_of_token(state, token)
    else:
        follower = await authenticate(state, request.headers.get("authorization"))
    position = _position(last_event_id or after)
    opened = state.open_streams.open(follower.account_id, follower.key_id)
    items = state.handoffs.broker.follow(follower.account_id, position)
    send_timeout_s = state.stream_limits.send_timeout_s
    chunks = _chunks(opened, items)
    if token:
        chunks = _renewing(chunks, state, follower.account_id, token)
    return EventStream(chunks, opened, send_timeout_s=send_timeout_s)


class EventStream(Response):
    """A response that lasts until its key is revoked, or the client disconnects or reads too slowly."""

    def __init__(
        self, chunks: AsyncGenerator[str, None], opened: OpenStream, *, send_timeout_s: float
    ) -> None:
        """Send ``chunks``, which are whole events and comments.

        Args:
            chunks: the text to send.
            opened: the stream, which is closed at the end.
            send_timeout_s: a client that leaves a chunk unread for longer is disconnected, in seconds.
        """
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._chunks = chunks
        self._opened = opened
        self._send_timeout_s = send_timeout_s
        self._has_ended = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client."""
        del scope
        tasks = set[asyncio.Task[object]]()
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            tasks |= {
                asyncio.create_task(work)
                for work in (_disconnected(receive), self._send_all(send), self._opened.revoked.wait())
            }
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._chunks.aclose()
            self._opened.close()
        if self._opened.revoked.is_set() and not self._has_ended:
            await self._end(send)

    async def _send_all(self, send: Send) -> None:
        try:
            async for chunk in self._chunks:
                async with asyncio.timeout(self._send_timeout_s):
                    await send({"type": "http.response.body", "body": chunk.encode(), "more_body": True})
        except TimeoutError:
            # The server closes the connection, because the response ends without its last chunk.
            logger.warning("a client of the event stream read too slowly and was disconnected")
            return
        await self._end(send)

    async def _end(self, send: Send) -> None:
        self._has_ended = True
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _chunks(opened: OpenStream, items: AsyncGenerator[Item, None]) -> AsyncGenerator[str, None]:
    yield ": connected\nretry: 1000\n\n"
    async with contextlib.aclosing(items):
        async for item in items:
            if not await opened.may_send():
                return
            match item:
                case Heartbeat():
                    yield ": heartbeat\n\n"
                case Reset(last):
                    yield _sse("reset", {"as_of_seq": last}, last)
                case _:
                    for chunk in _joined(item):
                        yield chunk


async def _renewing(
    chunks: AsyncGenerator[str, None], state: AppState, account_id: UUID, token: str
) -> AsyncGenerator[str, None]:
    """``chunks``; while they are sent, the token is renewed."""
    renewed_at: datetime | None = None
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            now = state.clock.now()
            if renewed_at is None or now - renewed_at >= _RENEW_EVERY:
                with contextlib.suppress(DatabaseError):  # the next heartbeat tries again
                    await stream_tokens.renew(
                        state.database, account_id, token, now=now, expires_at=now + _RENEWED_LIFETIME
                    )
                    renewed_at = now
            yield chunk


def _joined(batch: Sequence[HandoffEventRecord]) -> Iterator[str]:
    """Events joined to chunks that are small enough to detect between them that the client does not read."""
    chunk = ""
    for event in batch:
        chunk += _event(event)
        if len(chunk) > _CHUNK_CHARACTERS:
            yield chunk
            chunk = ""
    if chunk:
        yield chunk


def _event(event: HandoffEventRecord) -> str:
    data = {
        "seq": event.seq,
        "type": event.type,
        "at": event.at.isoformat(),
        "handoff_id": str(event.handoff_id) if event.handoff_id else None,
        "call_id": str(event.call_id) if event.call_id else None,
        "actor_id": str(event.actor_id) if event.actor_id else None,
        "data": event.data,
    }
    return _sse(event.type, data, event.seq)


async def _principal_of_token(state: AppState, token: str) -> Principal:
    now = state.clock.now()
    try:
        account_id, key_id = await _read_token(state, token, now)
        key = await keys.get_valid(state.database, account_id, key_id)
    except (TokenRefused, KeyRefused) as error:
        raise unauthorized(str(error), ' error="invalid_token"') from None
    return Principal(account_id=key.account_id, key_id=key.id, role=key.role)


async def _read_token(state: AppState, token: str, now: datetime) -> tuple[UUID, UUID]:
    """The account and the key of a token that is new, or that a stream renewed.

    Raises:
        TokenRefused: it is invalid or expired.
    """
    try:
        return state.stream_tokens.read(token, now)
    except TokenRefused:
        found = state.stream_tokens.read(token, now, lifetime=_LONGEST_LIFETIME)
        if await stream_tokens.is_renewed(state.database, found[0], token, now):
            return found
        raise


def _position(last: str | None) -> int | None:
    if last is None or last == "":
        return None
    if not (last.isascii() and last.isdigit()) or int(last) > _HIGHEST_SEQ:
        fault = FieldError(
            pointer="/after",
            code="invalid_value",
            message="The value is not the id of an event.",
            remedy="Send the id of the last event received.",
        )
        raise ApiProblem("invalid_request", fault.message, errors=[fault])
    return int(last)
