"""What is decided about a lead before and after an attempt. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from db.calls import CallRecord
from templates.outbound import CallingWindow, Outbound
from voicebot.dispatch.windows import Window, next_opening

Failure = Literal["busy", "no_answer", "voicemail", "failed", "dropped"]
"""Why an attempt did not reach the person; each has a pause of its own before the next attempt."""

NOT_PLACED = "not_placed"
"""The end reason of an attempt that the carrier certainly did not dial."""

_OUTCOME_OF_REASON: Mapping[str, Failure] = {
    "busy": "busy",
    "no_answer": "no_answer",
    "canceled": "no_answer",
    "never_connected": "no_answer",
    "voicemail": "voicemail",
    "failed": "failed",
    NOT_PLACED: "failed",
    "process_lost": "dropped",
    "stream_lost": "dropped",
    "stt_unavailable": "dropped",
    "llm_unavailable": "dropped",
    "tts_unavailable": "dropped",
    "no_capacity": "dropped",
}

ANSWERED = "answered"
"""The outcome of an answered call whose agent recorded none."""


@dataclass(frozen=True, slots=True)
class Over:
    """The lead ends without a call."""

    outcome: str


@dataclass(frozen=True, slots=True)
class Later:
    """The lead is not called before a moment."""

    until: datetime
    waits_for: Literal["window", "rate_limit"]


def window_of(window: CallingWindow) -> Window:
    """The calling window of a template."""
    closes = None if window.to == "24:00" else time.fromisoformat(window.to)
    return Window(opens=time.fromisoformat(window.from_), closes=closes, days=window.days)


def before_call(
    outbound: Outbound, now: datetime, zone: ZoneInfo, *, opted_out: bool, latest_at: datetime | None
) -> Over | Later | None:
    """What keeps a person from being called now, apart from what needs the database; None: nothing.

    Args:
        outbound: the settings of the lead's template.
        now: the present moment.
        zone: the person's time zone.
        opted_out: whether the person does not want to be called by this account.
        latest_at: when the lead's time is over; None: never.
    """
    if opted_out:
        return Over("opted_out")
    if latest_at is not None and now >= latest_at:
        return Over("expired")
    opening = next_opening(window_of(outbound.window), now, zone)
    if latest_at is not None and opening >= latest_at:
        return Over("expired")
    return None if opening <= now else Later(opening, "window")


def rate_limited_until(outbound: Outbound, calls: Sequence[datetime]) -> datetime | None:
    """When the person may be called again; None: now.

    ``calls`` are the moments of the calls of the period, oldest first.
    """
    limit = outbound.rate_limit
    if limit is None or len(calls) < limit.calls:
        return None
    return calls[-limit.calls] + timedelta(milliseconds=limit.per_ms)


def failure_of(call: CallRecord) -> Failure | None:
    """Why an ended attempt did not reach the person; None: it did.

    An answered call failed only if it was ended by a failure of ours: what the agent has recorded stands.
    """
    failure = _OUTCOME_OF_REASON.get(call.end_reason or "")
    if call.answered_at is None:
        return failure or "failed"
    if call.outcome is not None or failure not in ("dropped", "voicemail"):
        return None
    return failure


def retry_at(
    outbound: Outbound,
    failure: Failure,
    *,
    attempts: int,
    now: datetime,
    zone: ZoneInfo,
    latest_at: datetime | None,
) -> datetime | None:
    """When to try again after a failed attempt; None: never.

    Args:
        outbound: the settings of the lead's template.
        failure: why the last attempt failed.
        attempts: how many attempts were made.
        now: the present moment.
        zone: the person's time zone.
        latest_at: when the lead's time is over; None: never.
    """
    if attempts >= outbound.max_attempts:
        return None
    pause_ms: int = getattr(outbound.retry, failure)
    at = next_opening(window_of(outbound.window), now + timedelta(milliseconds=pause_ms), zone)
    return None if latest_at is not None and at >= latest_at else at
