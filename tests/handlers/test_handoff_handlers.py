"""What a model may do when only people can help."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from handlers.cancel_escalation import CancelEscalation
from handlers.escalate_to_person import EscalateToPerson
from handlers.park_call import ParkCall
from handlers.registry import BUILTIN_FUNCTIONS, HANDLERS
from tests.handlers.http_harness import RecordingCall


class InBerlin(RecordingCall):
    """A call to a number in Berlin, on the first of January 2026."""

    @property
    def time_zone(self) -> ZoneInfo:
        return ZoneInfo("Europe/Berlin")


async def test_escalation_requests_a_handoff() -> None:
    """The handoff request has the reason and the priority, and the result is "queued"."""
    call = RecordingCall()
    answer = await EscalateToPerson().bind(call).run({"reason": "a refund", "priority": "high"})

    assert answer.result == {"status": "queued"}
    assert (call.kept["escalate"].reason, call.kept["escalate"].priority) == ("a refund", "high")


async def test_time_without_zone_is_in_the_zone_of_the_number() -> None:
    """A time without a zone is in the time zone of the called number."""
    call = InBerlin()
    answer = await ParkCall().bind(call).run({"reason": "later", "due_at": "2026-01-02T10:00"})

    assert call.kept["park"].due_at.astimezone(UTC) == datetime(2026, 1, 2, 9, tzinfo=UTC)
    assert answer.result == {
        "status": "parked",
        "due_at": "2026-01-02T10:00+01:00",
        "time_zone": "Europe/Berlin",
    }


class Withheld(RecordingCall):
    """A call of somebody who withholds their number."""

    @property
    def has_phone(self) -> bool:
        return False


async def test_a_withheld_number_must_be_asked_for() -> None:
    """Without a number nobody can call back: the model asks for one, and gives it with the reason."""
    call = Withheld()
    refused = await ParkCall().bind(call).run({"reason": "the offer of 2 March"})
    assert (refused.result["status"], refused.result["code"]) == ("refused", "number_withheld")
    assert "park" not in call.kept
    answer = await ParkCall().bind(call).run({"reason": "the offer; call +44 20 7946 0123"})
    assert answer.result["status"] == "parked"


@pytest.mark.parametrize("due_at", ["2020-01-01T10:00", "2031-01-01T10:00", "soon"])
async def test_invalid_time_is_refused(due_at: str) -> None:
    """A time in the past, too far in the future or not readable is refused, and nothing is requested."""
    call = InBerlin()
    answer = await ParkCall().bind(call).run({"reason": "later", "due_at": due_at})

    assert answer.result["status"] == "refused"
    assert "park" not in call.kept


def test_handoff_handlers_are_registered() -> None:
    """The registry contains escalate_to_person and park_call."""
    assert {"escalate_to_person", "park_call"} <= HANDLERS.keys()


async def test_an_escalation_is_withdrawn_once() -> None:
    """`cancel_escalation` ends the waiting; without an open request it says that there was none."""
    call = RecordingCall()
    refused = await CancelEscalation().bind(call).run({})
    await EscalateToPerson().bind(call).run({"reason": "a refund"})
    answer = await CancelEscalation().bind(call).run({})

    assert (refused.result["status"], refused.result["code"]) == ("refused", "not_waiting")
    assert answer.result == {"status": "cancelled"}
    assert "escalate" not in call.kept


def test_cancel_escalation_is_not_listed_by_authors() -> None:
    """It is offered with `escalate_to_person`, as `route_to_agent` is with a route."""
    assert "cancel_escalation" in HANDLERS
    assert "cancel_escalation" not in BUILTIN_FUNCTIONS
