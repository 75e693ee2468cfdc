"""What a model may do when only people can help."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from handlers.escalate_to_person import EscalateToPerson
from handlers.park_call import ParkCall
from handlers.registry import HANDLERS
from tests.handlers.http_harness import RecordingCall


class InBerlin(RecordingCall):
    """A call to a number in Berlin, on the first of January 2026."""

    @property
    def time_zone(self) -> ZoneInfo:
        return ZoneInfo("Europe/Berlin")


async def test_a_person_is_asked_for() -> None:
    """The call hands itself off with reason and priority, and the model is told that it is queued."""
    call = RecordingCall()
    answer = await EscalateToPerson().bind(call).run({"reason": "a refund", "priority": "high"})

    assert answer.result == {"status": "queued"}
    assert (call.kept["escalate"].reason, call.kept["escalate"].priority) == ("a refund", "high")


async def test_a_time_without_a_zone_is_the_callers() -> None:
    """Ten o'clock is ten o'clock in Berlin."""
    call = InBerlin()
    answer = await ParkCall().bind(call).run({"reason": "later", "due_at": "2026-01-02T10:00"})

    assert call.kept["park"].due_at.astimezone(UTC) == datetime(2026, 1, 2, 9, tzinfo=UTC)
    assert answer.result == {
        "status": "parked",
        "due_at": "2026-01-02T10:00+01:00",
        "time_zone": "Europe/Berlin",
    }


@pytest.mark.parametrize("due_at", ["2020-01-01T10:00", "2031-01-01T10:00", "soon"])
async def test_an_impossible_time_is_refused(due_at: str) -> None:
    """The model is told what is wrong and can ask the caller again."""
    call = InBerlin()
    answer = await ParkCall().bind(call).run({"reason": "later", "due_at": due_at})

    assert answer.result["status"] == "refused"
    assert "park" not in call.kept


def test_both_can_be_listed_by_authors() -> None:
    """The registry knows them under the names of the interface."""
    assert {"escalate_to_person", "park_call"} <= HANDLERS.keys()
