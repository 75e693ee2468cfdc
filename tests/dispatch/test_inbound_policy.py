"""Which inbound calls are taken, and who answers: a decision without carrier or database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from db.inbound import AnsweringTemplate
from templates.inbound import Hours, InboundPolicy, Reason, Refusals
from voicebot.dispatch.inbound_policy import CallFacts, Menu, answering, is_open, refusal_of

BERLIN = ZoneInfo("Europe/Berlin")
MONDAY_NOON = datetime(2026, 11, 30, 11, tzinfo=UTC)
CALLER = "+14155550199"
WEEKDAYS = {"from": "09:00", "to": "17:00", "days": ["mon", "tue", "wed", "thu", "fri"]}


def policy(**more: Any) -> InboundPolicy:
    """A policy as a client sends it."""
    return InboundPolicy.model_validate(more)


def facts(**more: Any) -> CallFacts:
    """A call on a Monday at noon in Berlin."""
    return CallFacts(**{"at": MONDAY_NOON, "zone": BERLIN, "caller": CALLER, **more})


@pytest.mark.parametrize(
    ("settings", "call", "reason"),
    [
        ({}, {}, None),
        ({"accepting": False}, {}, "not_accepting"),
        ({"blocked": [CALLER]}, {}, "blocked"),
        ({"blocked": [CALLER]}, {"caller": None}, None),
        ({"blocked": ["+14155550198"]}, {}, None),
        ({"hours": WEEKDAYS}, {}, None),
        ({"hours": WEEKDAYS}, {"at": MONDAY_NOON + timedelta(hours=6)}, "outside_hours"),
        ({"hours": WEEKDAYS}, {"at": MONDAY_NOON - timedelta(days=1)}, "outside_hours"),
        ({"hours": {**WEEKDAYS, "holidays": ["2026-11-30"]}}, {}, "outside_hours"),
        ({"per_caller": {"calls": 2, "per_ms": 60_000}}, {"recent_calls": 1}, None),
        ({"per_caller": {"calls": 2, "per_ms": 60_000}}, {"recent_calls": 2}, "caller_limit"),
        ({"per_caller": {"calls": 2, "per_ms": 60_000}}, {"recent_calls": 2, "caller": None}, None),
        ({"max_concurrent": 2}, {"live_calls": 1}, None),
        ({"max_concurrent": 2}, {"live_calls": 2}, "number_busy"),
        ({"blocked": [CALLER], "max_concurrent": 1}, {"live_calls": 1}, "blocked"),
    ],
)
def test_which_calls_are_taken(settings: dict[str, Any], call: dict[str, Any], reason: str | None) -> None:
    """Each part of the policy refuses for a reason of its own; the first one counts."""
    assert refusal_of(policy(**settings), facts(**call)) == reason


@pytest.mark.parametrize(
    ("reason", "action"),
    [("blocked", "reject"), ("outside_hours", "callback"), ("number_busy", "busy"), ("caller_limit", "say")],
)
def test_each_reason_has_its_action(reason: Reason, action: str) -> None:
    """One that is not listed has the action for all reasons."""
    refusals = {"outside_hours": {"action": "callback"}, "number_busy": {"action": "busy"}}
    some = policy(refusal={"action": "say", "text": "Later."}, refusals={**refusals, "blocked": {}})
    assert some.refusal_for(reason).action == action
    assert policy(refusal={"action": action, "text": "Later."}).refusal_for("outside_hours").action == action


def test_every_reason_may_have_an_action() -> None:
    """Those that events tell, and no other."""
    assert set(Refusals.model_fields) == {reason for part in get_args(Reason) for reason in get_args(part)}


@pytest.mark.parametrize("month", [3, 7, 10, 12])
def test_hours_are_those_of_the_wall_clock(month: int) -> None:
    """Summer and winter, minute by minute over the days on which the clocks change."""
    hours = Hours.model_validate({"from": "08:30", "to": "18:00", "holidays": [f"2026-{month:02}-26"]})
    at = datetime(2026, month, 24, tzinfo=UTC)
    for _ in range(3 * 24 * 12):
        local = at.astimezone(BERLIN)
        expected = (8, 30) <= (local.hour, local.minute) < (18, 0) and local.day != 26
        assert is_open(hours, at, BERLIN) == expected, local
        at += timedelta(minutes=5)


@pytest.mark.parametrize("month", [3, 7, 10])
def test_hours_may_end_on_the_next_day(month: int) -> None:
    """They belong to the day on which they begin, also on holidays and when the clocks change."""
    days = {"days": ["fri", "sat"], "holidays": [f"2026-{month:02}-28"]}
    hours = Hours.model_validate({"from": "22:00", "to": "02:30", **days})
    at = datetime(2026, month, 20, tzinfo=UTC)
    for _ in range(12 * 24 * 12):
        local = at.astimezone(BERLIN)
        begun = local.date() - timedelta(days=(local.hour, local.minute) < (2, 30))
        begins = begun.strftime("%a") in ("Fri", "Sat") and (begun.month, begun.day) != (month, 28)
        assert is_open(hours, at, BERLIN) == (begins and not (2, 30) <= (local.hour, local.minute) < (22, 0))
        at += timedelta(minutes=5)


def template(number: int, kind: Any = "agent") -> AnsweringTemplate:
    """An active template of a number."""
    return AnsweringTemplate(id=UUID(int=number), name=f"T{number}", kind=kind, revision=1, language="en-US")


def test_who_answers() -> None:
    """The orchestrator; else the only agent; else a menu of up to nine; else nobody."""
    agents = [template(number) for number in range(1, 12)]
    front = template(20, "orchestrator")
    assert answering([*agents, front]) == front
    assert answering(agents[:1]) == agents[0]
    assert answering(agents[:2]) == Menu(agents[:2])
    assert answering(agents) == Menu(agents[:9])
    assert answering([]) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"hours": {"from": "09:00", "to": "09:00"}},
        {"hours": {"from": "24:00", "to": "09:00"}},
        {"hours": {"from": "9 am"}},
        {"hours": {"days": []}},
        {"hours": {"holidays": ["Christmas"]}},
        {"blocked": ["0049"]},
        {"per_caller": {"calls": 0, "per_ms": 1000}},
        {"max_concurrent": 0},
        {"refusal": {"action": "say"}},
        {"refusal": {"action": "forward"}},
        {"refusal": {"action": "shout"}},
        {"refusals": {"too_late": {"action": "busy"}}},
        {"refusals": {"outside_hours": {"action": "say"}}},
        {"refusals": {"blocked": {"action": "callback"}}},
        {"refusals": {"blocked": {"action": "forward", "number": "+14155550111"}}},
        {"colour": "red"},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(settings: dict[str, Any]) -> None:
    """It could never be kept, or says nothing."""
    with pytest.raises(ValidationError):
        policy(**settings)
