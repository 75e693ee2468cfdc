"""What a running call tells: its events and its transcript in the order of time, each once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from voicebot.sandbox.demo.account import Api

_EVERY_S = 0.15
_SETTLES = timedelta(milliseconds=400)
"""Events and utterances come from two lists: a line is shown when none can come before it any more."""
_APPEARS_S = 15.0


class CallMissing(RuntimeError):
    """The server knows of no call: the carrier's webhook did not reach it, or was refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that happened: an utterance (at its end) or an event."""

    at: datetime
    at_ms: float
    """Since the answer."""
    kind: str
    """The event's type, or `said`."""
    template_id: str | None
    node: str | None
    record: dict[str, Any]
    """The utterance or the event, as the API answers it."""


async def newest_call(api: Api) -> str:
    """Wait for the call to be known; return its id.

    Raises:
        CallMissing: it did not appear within 15 s.
    """
    for _ in range(round(_APPEARS_S / _EVERY_S)):
        items = (await api.get("/calls"))["items"]
        if items:
            return str(items[0]["id"])
        await asyncio.sleep(_EVERY_S)
    raise CallMissing("The server knows of no call.")


async def follow(api: Api, call_id: str, over: Callable[[], bool]) -> AsyncIterator[Line]:
    """Tell what happens until the call has ended on the record, or `over` says that it never will."""
    seen: set[str] = set()
    waiting: list[Line] = []
    ended = False
    while not (ended or over()):
        ended = (await api.get(f"/calls/{call_id}"))["status"] == "ended"
        waiting += [line for line in await _lines(api, call_id) if line.record["id"] not in seen]
        seen.update(line.record["id"] for line in waiting)
        waiting.sort(key=lambda line: line.at)
        settled = datetime.now(UTC) - _SETTLES
        while waiting and (ended or waiting[0].at <= settled):
            yield waiting.pop(0)
        await asyncio.sleep(_EVERY_S)


async def _lines(api: Api, call_id: str) -> list[Line]:
    events = (await api.get(f"/calls/{call_id}/events"))["items"]
    said = (await api.get(f"/calls/{call_id}/transcript"))["items"]
    started = next((event["at"] for event in events if event["type"] == "call.started"), None)
    if started is None:
        return []
    answer = datetime.fromisoformat(started)
    return [_of_event(event, answer) for event in events] + [_of_utterance(each, answer) for each in said]


def _of_event(event: dict[str, Any], answer: datetime) -> Line:
    at = datetime.fromisoformat(event["at"])
    return Line(
        at=at,
        at_ms=(at - answer).total_seconds() * 1000,
        kind=event["type"],
        template_id=event["template_id"],
        node=event["node"],
        record=event,
    )


def _of_utterance(said: dict[str, Any], answer: datetime) -> Line:
    at_ms = said["ended_ms"] if said["ended_ms"] is not None else said["started_ms"]
    return Line(
        at=answer + timedelta(milliseconds=at_ms),
        at_ms=at_ms,
        kind="said",
        template_id=said["template_id"],
        node=said["node"],
        record=said,
    )
