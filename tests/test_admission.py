"""When a process takes new calls."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from db.ids import new_id
from voicebot.admission import EXPECTED_MS, Admission


class SteppedClock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.ms = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 1, tzinfo=UTC)

    def monotonic_ms(self) -> float:
        return self.ms


@pytest.fixture
def clock() -> SteppedClock:
    """The clock of the admission."""
    return SteppedClock()


@pytest.fixture
def live() -> set[UUID]:
    """The calls of the process."""
    return {new_id()}


@pytest.fixture
def admission(clock: SteppedClock, live: set[UUID]) -> Admission:
    """At most two calls, and a lag of at most 20 ms."""
    return Admission(clock, lambda: live, max_calls=2, max_lag_ms=20)


def test_calls_are_admitted_up_to_the_maximum(admission: Admission, live: set[UUID]) -> None:
    """The process is full with as many live calls as it may have, until one of them ends."""
    assert admission.refusal() is None
    live.add(second := new_id())
    assert admission.refusal() == "max_calls"
    live.remove(second)
    assert admission.refusal() is None


def test_an_admitted_call_counts_before_its_stream_opens(
    admission: Admission, clock: SteppedClock, live: set[UUID]
) -> None:
    """Calls answered at once cannot exceed the maximum; one whose stream never opens is forgotten."""
    admission.expect(expected := new_id())
    assert admission.refusal() == "max_calls"
    live.clear()
    live.add(expected)
    assert admission.refusal() is None
    live.clear()
    live.add(new_id())
    admission.expect(new_id())
    assert admission.refusal() == "max_calls"
    clock.ms += EXPECTED_MS + 1
    assert admission.refusal() is None


def test_a_lasting_lag_refuses_calls_and_one_slow_task_does_not(admission: Admission) -> None:
    """One lag of 300 ms changes nothing; a lasting one of 30 ms does, until it is below half the limit."""
    admission.observe(300)
    assert admission.refusal() is None
    for _ in range(60):
        admission.observe(30)
    assert admission.refusal() == "late"
    for _ in range(10):
        admission.observe(0)
    assert (admission.lag_ms > 10, admission.refusal()) == (True, "late")
    for _ in range(12):
        admission.observe(0)
    assert admission.refusal() is None


def test_a_late_process_without_calls_takes_one(admission: Admission, live: set[UUID]) -> None:
    """The lag matters only to live calls."""
    for _ in range(60):
        admission.observe(100)
    live.clear()
    assert admission.refusal() is None


def test_without_limits_every_call_is_admitted(clock: SteppedClock) -> None:
    """Neither calls nor lag are limited when the settings say so."""
    calls = {new_id() for _ in range(500)}
    admission = Admission(clock, lambda: calls, max_calls=None, max_lag_ms=0)
    for _ in range(60):
        admission.observe(1000)
    assert admission.refusal() is None
