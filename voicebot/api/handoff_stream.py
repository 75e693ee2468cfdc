"""/handoffs/stream: all events of the account's desk, as server-sent events, in order and without a gap."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response, Security
from fastapi.security import HTTPAuthorizationCredentials
from loguru import logger
from pydantic import BaseModel

from db import keys
from db.errors import DatabaseError, KeyRefused
from db.handoff_events import HandoffEventRecord
from voicebot.api import sse
from voicebot.api.access import BEARER, Principal, Reader, principal, unauthorized
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.documentation import refuses
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.api.stream_token import LIFE, TokenRefused
from voicebot.handoffs.event_broker import Heartbeat, Item, Reset

router = APIRouter(prefix="/handoffs", tags=["handoffs"])

_CHUNK = 32 * 1024
_HIGHEST_SEQ = 2**63 - 1
_EXAMPLE = sse.event(
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
        "description": "Server-sent events, without an end.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
    }
}


class StreamToken(BaseModel):
    """A token that opens the stream."""

    token: str
    expires_at: datetime


@router.post("/stream-token", status_code=201, responses=refuses())
async def create_stream_token(wired: AppStateDep, reader: Reader) -> StreamToken:
    """A token for `GET /handoffs/stream?token=…`, where no header can be sent. Good for a minute."""
    now = wired.clock.now()
    token = wired.stream_tokens.issue(reader.account_id, reader.key_id, now)
    return StreamToken(token=token, expires_at=now + LIFE)


@router.get("/stream", response_class=Response, responses=_ENDLESS | refuses("invalid_request"))
async def stream(
    wired: AppStateDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)] = None,
    token: Annotated[str | None, Query(max_length=500, description="In place of a key's header.")] = None,
    after: Annotated[str | None, Query(max_length=20, description="In place of `Last-Event-ID`.")] = None,
    last_event_id: Annotated[str | None, Header(max_length=20, description="The last `id` seen.")] = None,
) -> Response:
    """What happens at the desk, for as long as one listens, in order and without a gap.

    Events from the one after `Last-Event-ID` (or `?after=`) on; without either, from now on. `reset` says
    that what followed was forgotten: read the queue, and go on from `as_of_seq`. Comments are heartbeats.
    """
    follower = await _by_token(wired, token) if token else await principal(wired, credentials)
    items = wired.office.broker.follow(follower.account_id, _seen(last_event_id or after))
    return sse.EventStream(_told(wired, follower, items), grace_s=wired.stream_rules.grace_s)


async def _told(
    wired: AppState, follower: Principal, items: AsyncGenerator[Item, None]
) -> AsyncGenerator[str, None]:
    trust = _Trust(wired, follower)
    yield ": connected\nretry: 1000\n\n"
    async with contextlib.aclosing(items):
        async for item in items:
            if not await trust.holds():
                return
            match item:
                case Heartbeat():
                    yield ": heartbeat\n\n"
                case Reset(last):
                    yield sse.event("reset", {"as_of_seq": last}, last)
                case _:
                    for chunk in _chunks(item):
                        yield chunk


def _chunks(batch: Sequence[HandoffEventRecord]) -> Iterator[str]:
    """Events put together to chunks that are small enough to notice between them that nobody reads."""
    chunk = ""
    for event in batch:
        chunk += _event(event)
        if len(chunk) > _CHUNK:
            yield chunk
            chunk = ""
    if chunk:
        yield chunk


def _event(event: HandoffEventRecord) -> str:
    return sse.event(
        event.type,
        {
            "seq": event.seq,
            "type": event.type,
            "at": event.at.isoformat(),
            "handoff_id": str(event.handoff_id) if event.handoff_id else None,
            "call_id": str(event.call_id) if event.call_id else None,
            "actor_id": str(event.actor_id) if event.actor_id else None,
            "data": event.data,
        },
        event.seq,
    )


class _Trust:
    """Whether a follower may go on: looked up now and then, before anything more is told."""

    def __init__(self, wired: AppState, follower: Principal) -> None:
        self._wired = wired
        self._follower = follower
        self._sure_ms = wired.clock.monotonic_ms()

    async def holds(self) -> bool:
        passed = timedelta(milliseconds=self._wired.clock.monotonic_ms() - self._sure_ms)
        if passed < self._wired.stream_rules.recheck:
            return True
        try:
            await keys.still_good(self._wired.database, self._follower.account_id, self._follower.key_id)
        except KeyRefused:
            logger.info("a follower of the desk lost its key and was let go")
            return False
        except DatabaseError:
            return passed < self._wired.stream_rules.trusted
        self._sure_ms = self._wired.clock.monotonic_ms()
        return True


async def _by_token(wired: AppState, token: str) -> Principal:
    try:
        account_id, key_id = wired.stream_tokens.read(token, wired.clock.now())
        key = await keys.still_good(wired.database, account_id, key_id)
    except (TokenRefused, KeyRefused) as error:
        raise unauthorized(str(error), ' error="invalid_token"') from None
    return Principal(account_id=key.account_id, key_id=key.id, role=key.role)


def _seen(last: str | None) -> int | None:
    if last is None or last == "":
        return None
    if not (last.isascii() and last.isdigit()) or int(last) > _HIGHEST_SEQ:
        fault = FieldError(
            pointer="/after",
            code="invalid_value",
            message="Not the id of an event.",
            remedy="Use the id that came with it.",
        )
        raise ApiProblem("invalid_request", fault.message, errors=[fault])
    return int(last)
