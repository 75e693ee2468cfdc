"""Calling windows, compared with a search minute by minute."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebot.dispatch.windows import DAYS, Window, next_opening

ZONES = (
    "America/New_York", "America/Sao_Paulo", "Asia/Kathmandu", "Asia/Kolkata", "Australia/Lord_Howe",
    "Europe/Berlin", "Europe/Dublin", "America/St_Johns", "Pacific/Apia", "UTC",
)  # fmt: skip
MINUTE = timedelta(minutes=1)
WEEKDAYS = DAYS[:5]


def window(opens: str, closes: str | None, days: tuple[str, ...] = DAYS) -> Window:
    return Window(
        opens=time.fromisoformat(opens),
        closes=None if closes is None else time.fromisoformat(closes),
        days=days,  # type: ignore[arg-type]
    )


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "zone", "opening"),
    [
        ("2026-11-25T12:00", "Europe/Berlin", "2026-11-25T12:00"),
        ("2026-11-25T07:59", "Europe/Berlin", "2026-11-25T08:00"),
        ("2026-11-27T19:00", "Europe/Berlin", "2026-11-30T08:00"),  # Friday evening to Monday
        ("2026-11-25T03:00", "Asia/Kolkata", "2026-11-25T03:30"),
        # The day on which the clocks go forward and the day on which they go back.
        ("2026-03-27T23:00", "Europe/Berlin", "2026-03-30T07:00"),
        ("2026-10-23T22:00", "Europe/Berlin", "2026-10-26T08:00"),
    ],
)
def test_next_opening(moment: str, zone: str, opening: str) -> None:
    """The next opening is exact, in the zone's own time on that day."""
    assert next_opening(window("09:00", "20:00", WEEKDAYS), at(moment), ZoneInfo(zone)) == at(opening)


def test_an_opening_that_the_clock_skips() -> None:
    """A window that begins in the skipped hour opens with the first minute after it."""
    skipped = window("02:30", "03:30")
    assert next_opening(skipped, at("2026-03-29T00:10"), ZoneInfo("Europe/Berlin")) == at("2026-03-29T01:00")


def test_an_hour_that_comes_twice() -> None:
    """A window within the repeated hour opens twice."""
    repeated, zone = window("02:15", "02:30"), ZoneInfo("Europe/Berlin")
    assert next_opening(repeated, at("2026-10-25T00:00"), zone) == at("2026-10-25T00:15")
    assert next_opening(repeated, at("2026-10-25T00:30"), zone) == at("2026-10-25T01:15")


@pytest.mark.hypothesis
@given(
    st.sampled_from(ZONES),
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 30)),  # noqa: DTZ001 - made aware below
    st.integers(0, 1438),
    st.integers(1, 1440),
    st.sets(st.sampled_from(DAYS), min_size=1),
)
def test_openings_are_those_of_a_search(
    name: str, moment: datetime, begin: int, length: int, days: set[str]
) -> None:
    """The next opening is the first minute that a search finds inside."""
    zone, moment = ZoneInfo(name), moment.replace(second=0, microsecond=0, tzinfo=UTC)
    end = min(begin + length, 1440)
    spans = Window(
        opens=time(begin // 60, begin % 60),
        closes=None if end == 1440 else time(end // 60, end % 60),
        days=days,  # type: ignore[arg-type]
    )
    found = next_opening(spans, moment, zone)
    assert spans.contains(found, zone)
    searched, step = moment, MINUTE
    while not spans.contains(searched, zone) and searched < found:
        searched += step
    # Apia is the only zone with a skipped hour at midnight; all of them change on whole minutes.
    assert searched == found


@pytest.mark.parametrize("name", ZONES)
def test_openings_of_days_on_which_clocks_change(name: str) -> None:
    """Around every change of the clocks of the year, the next opening is that of a search."""
    zone = ZoneInfo(name)
    hour = timedelta(hours=1)
    moment, changes = at("2026-01-01"), []
    while moment < at("2027-01-01"):
        if moment.astimezone(zone).utcoffset() != (moment + hour).astimezone(zone).utcoffset():
            changes.append(moment)
        moment += hour
    for change in changes:
        for opens in ("00:00", "00:30", "01:30", "02:00", "02:30", "03:00", "23:45"):
            spans = window(opens, None)
            for before in range(-180, 240, 30):
                start = change + before * MINUTE
                searched = start
                while not spans.contains(searched, zone):
                    searched += 5 * MINUTE if searched.minute % 5 == 0 else MINUTE
                assert next_opening(spans, start, zone) <= searched
                assert spans.contains(next_opening(spans, start, zone), zone)
