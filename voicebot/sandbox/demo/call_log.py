"""Follows a running call: its events and utterances in order of time, each once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from voicebot.sandbox.demo.account import Api

_EVERY_S = 0.25
_SETTLES = timedelta(milliseconds=400)
"""Events and utterances come from two requests: a line is shown once no earlier one can appear."""
_APPEARS_S = 15.0


class CallMissing(RuntimeError):
    """The server has no call: the carrier's webhook did not reach it, or was refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An utterance (when it was over) or an event."""

    at: datetime
    """When it was recorded, from its id, which is a UUIDv7."""
    at_ms: float
    """The same, in ms since the call was answered."""
    kind: str
    """The event's type, or `said`."""
    template_id: str | None
    node: str | None
    record: dict[str, Any]
    """The utterance or the event, as the API answers it."""


async def newest_call(api: Api, *, before: str | None = None) -> str:
    """Wait until the server has the call; return its id. `before` was the newest one before.

    Raises:
        CallMissing: it did not appear within 15 s.
    """
    for _ in range(round(_APPEARS_S / _EVERY_S)):
        items = (await api.get("/calls"))["items"]
        if items and items[0]["id"] != before:
            return str(items[0]["id"])
        await asyncio.sleep(_EVERY_S)
    raise CallMissing("The server has no call.")


async def follow(api: Api, call_id: str) -> AsyncIterator[Line]:
    """Yield what happens until the call has ended."""
    seen: set[str] = set()
    waiting: list[Line] = []
    ended = False
    while not ended:
        ended = (await api.get(f"/calls/{call_id}"))["status"] == "ended"
        waiting += [line for line in await _lines(api, call_id) if line.record["id"] not in seen]
        seen.update(line.record["id"] for line in waiting)
        waiting.sort(key=lambda line: str(line.record["id"]))
        settled = datetime.now(UTC) - _SETTLES
        while waiting and (ended or waiting[0].at <= settled):
            yield waiting.pop(0)
        await asyncio.sleep(_EVERY_S)


async def _lines(api: Api, call_id: str) -> list[Line]:
    events = (await api.get(f"/calls/{call_id}/events"))["items"]
    said = (await api.get(f"/calls/{call_id}/transcript"))["items"]
    answer = next((_time(event) for event in events if event["type"] == "call.started"), None)
    if answer is None:
        return []
    return [
        Line(
            at=_time(record),
            at_ms=(_time(record) - answer).total_seconds() * 1000,
            kind=record.get("type", "said"),
            template_id=record["template_id"],
            node=record["node"],
            record=record,
        )
        for record in (*events, *said)
    ]


def _time(record: Mapping[str, Any]) -> datetime:
    return datetime.fromtimestamp((UUID(record["id"]).int >> 80) / 1000, UTC)
