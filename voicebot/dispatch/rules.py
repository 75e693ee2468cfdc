"""What is decided about a lead before and after an attempt. Pure functions."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from templates.outbound import CallingWindow, Outbound
from voicebot.dispatch.outcomes import Failure
from voicebot.dispatch.windows import Window, next_opening


@dataclass(frozen=True, slots=True)
class Over:
    """The lead ends without a call."""

    outcome: str


@dataclass(frozen=True, slots=True)
class Later:
    """The lead is not called before a moment."""

    until: datetime
    waits_for: Literal["window", "rate_limit"]


@lru_cache(maxsize=100)
def outbound_of(document: str | None) -> Outbound | None:
    """How a template dials and reports, from the JSON of its document; None if that cannot be read."""
    with suppress(ValidationError):
        return Outbound.model_validate_json(document or "{}")
    return None


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
