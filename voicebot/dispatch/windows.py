"""Calling windows: when a person may be called, in their own time zone. Pure functions.

A moment is inside a window if the wall clock there shows a time from ``opens`` until before ``closes`` on one
of the days. When the clocks go back, a time that comes twice is inside twice; when they go forward, a window
whose beginning is skipped opens with the first time that exists.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_SEARCH_DAYS = 8
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A daily span of wall-clock time on some days of the week.

    Attributes:
        opens: the first time of day inside.
        closes: the first time of day outside; None: midnight.
        days: the days of the week, at least one.
    """

    opens: time
    closes: time | None
    days: Collection[Day]

    def contains(self, at: datetime, zone: ZoneInfo) -> bool:
        """Whether a moment is inside."""
        local = at.astimezone(zone)
        clock = local.time()
        is_before_end = self.closes is None or clock < self.closes
        return DAYS[local.weekday()] in self.days and self.opens <= clock and is_before_end


def next_opening(window: Window, at: datetime, zone: ZoneInfo) -> datetime:
    """The first moment from ``at`` on that is inside the window: ``at`` itself, or the exact opening.

    Raises:
        ValueError: the window has no day.
    """
    if window.contains(at, zone):
        return at
    inside = (moment for moment in _openings(window, at, zone) if window.contains(moment, zone))
    first = min((moment for moment in inside if moment > at), default=None)
    if first is None:
        raise ValueError("the window never opens")
    return first


def _openings(window: Window, at: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """Every moment of the next days at which the window may open."""
    today = at.astimezone(zone).date()
    for offset in range(-1, _SEARCH_DAYS + 1):
        day = today + timedelta(days=offset)
        for fold in (0, 1):
            wall = datetime.combine(day, window.opens).replace(tzinfo=zone, fold=fold)
            yield wall.astimezone(UTC)
        change = _clock_change(datetime.combine(day, time()).replace(tzinfo=zone).astimezone(UTC), zone)
        if change is not None:
            yield change


def _clock_change(start: datetime, zone: ZoneInfo) -> datetime | None:
    """The minute at which the clocks change in the 25 hours from ``start``; None if they do not."""
    low, high = start, start + timedelta(hours=25)
    if _offset(low, zone) == _offset(high, zone):
        return None
    while high - low > _MINUTE:
        middle = low + (high - low) // 2
        middle = middle.replace(second=0, microsecond=0)
        if middle <= low:
            break
        if _offset(middle, zone) == _offset(low, zone):
            low = middle
        else:
            high = middle
    return high


def _offset(at: datetime, zone: ZoneInfo) -> timedelta | None:
    return at.astimezone(zone).utcoffset()
