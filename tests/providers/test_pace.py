"""The pace of a provider's voices: voicebot.providers.pace."""

from __future__ import annotations

import time

import pytest

from voicebot.providers.pace import KEPT_S, Pace


def test_the_slowest_of_the_latest_texts_counts_for_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier text than the latest ones, or one of another time of the day, says nothing."""
    now_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    pace = Pace(latest=2)
    slowest = [pace.slowest_ms]
    for ms in (900.0, 200.0, 150.0):
        pace.note(ms)
    slowest.append(pace.slowest_ms)
    now_s += KEPT_S + 1
    assert [*slowest, pace.slowest_ms] == [None, 200.0, None]
