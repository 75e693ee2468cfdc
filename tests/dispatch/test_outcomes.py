"""Outcome, cost and output of a call, from its record."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import UUID

import pytest

from db.call_use import AgentProviders, CallUse
from db.calls import CallRecord
from db.events import EventRecord
from db.ids import new_id
from db.legs import LegRecord
from db.model_requests import ModelUse
from db.routes import RouteRecord
from db.utterances import UtteranceRecord
from templates.outbound import OutputField, RetryPauses
from voicebot.dispatch.costs import Prices, cost_of, stt_seconds, tts_characters
from voicebot.dispatch.outcomes import Failure, outcome_of
from voicebot.dispatch.output_fields import checked, schema_of

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
FRONT, BILLING = UUID(int=1), UUID(int=2)


def make_call(**more: Any) -> CallRecord:
    """A call of a minute that the caller ended."""
    values: dict[str, Any] = {
        "id": new_id(), "account_id": new_id(), "lead_id": new_id(), "number_id": new_id(),
        "carrier": "twilio", "carrier_call_id": "CA1", "carrier_status": None, "direction": "outbound",
        "from_number": "+14155550100", "to_number": "+14155550199", "initial_template_id": FRONT,
        "template_id": FRONT, "revisions": {str(FRONT): 1}, "node": None, "variables": {}, "status": "ended",
        "ended_by": "caller", "end_reason": "hangup", "outcome": None, "resumes": 0, "handovers": 0,
        "started_at": NOON, "answered_at": NOON, "ended_at": NOON + timedelta(seconds=60),
    }  # fmt: skip
    return CallRecord(**{**values, **more})


@pytest.mark.parametrize(
    ("facts", "name", "failure"),
    [
        ({}, "answered", None),
        ({"outcome": "booked"}, "booked", None),
        ({"end_reason": "process_lost"}, "dropped", "dropped"),
        ({"end_reason": "process_lost", "outcome": "booked"}, "booked", None),
        ({"answered_at": None, "end_reason": "busy"}, "busy", "busy"),
        ({"answered_at": None, "end_reason": "no_answer"}, "no_answer", "no_answer"),
        ({"answered_at": None, "end_reason": "canceled"}, "no_answer", "no_answer"),
        ({"answered_at": None, "end_reason": "hangup"}, "no_answer", "no_answer"),
        ({"answered_at": None, "end_reason": "not_placed"}, "failed", "failed"),
        ({"answered_at": None, "end_reason": "anything else"}, "failed", "failed"),
        ({"answered_by": "machine"}, "voicemail", "voicemail"),
        ({"answered_by": "machine", "end_reason": "process_lost"}, "voicemail", "voicemail"),
        ({"answered_by": "machine", "outcome": "booked"}, "booked", None),
        ({"answered_by": "human"}, "answered", None),
        ({"direction": "inbound"}, "answered", None),
        ({"direction": "inbound", "outcome": "booked"}, "booked", None),
        ({"direction": "inbound", "end_reason": "stream_lost"}, "dropped", None),
        ({"direction": "inbound", "answered_at": None, "end_reason": "hangup"}, "abandoned", None),
        ({"direction": "inbound", "answered_at": None, "end_reason": "no_capacity"}, "refused", None),
    ],
)
def test_the_outcome_of_a_call(facts: dict[str, Any], name: str, failure: str | None) -> None:
    """What the agent recorded stands; otherwise how the call ended says what came of it."""
    outcome = outcome_of(make_call(**facts))
    if facts.get("direction") == "inbound":
        assert outcome.failure is None
    assert (outcome.name, outcome.failure) == (name, failure)


def test_every_failure_has_a_pause() -> None:
    """The retry schedule of a template names each."""
    assert set(get_args(Failure)) == set(RetryPauses.model_fields)


def test_seconds_and_characters_belong_to_the_provider_that_was_used() -> None:
    """Routes, backups and operators on the line are counted as they happened."""
    call = make_call()
    place: dict[str, Any] = {"id": new_id(), "account_id": call.account_id, "call_id": call.id, "seq": 1}

    def at(seconds: float) -> datetime:
        return NOON + timedelta(seconds=seconds)

    def switched(part: str, seconds: float, to: str) -> EventRecord:
        data = {"part": part, "from": "deepgram", "to": to}
        return EventRecord(
            **place, type="provider.switched", at=at(seconds), template_id=BILLING, node=None, data=data
        )

    def said(seconds: float, text: str, source: Any = "llm") -> UtteranceRecord:
        return UtteranceRecord(
            **place, speaker="agent", template_id=BILLING, node=None, text=text, heard_text=None,
            interrupted=False, source=source, started_ms=int(seconds * 1000), ended_ms=None,
        )  # fmt: skip

    route = RouteRecord(
        **place, name="billing", hop=1, from_template_id=FRONT, from_node=None, to_template_id=BILLING,
        to_node=None, reason="", context="full", announced=False, status="done", error_code=None,
        requested_at=at(9), switched_at=at(10), first_audio_at=None, gap_ms=None,
    )  # fmt: skip
    leg = LegRecord(
        id=new_id(), account_id=call.account_id, handoff_id=new_id(), epoch=1, call_id=call.id,
        user_id=new_id(), carrier="twilio", from_number="", to_number="", webhooks_url="",
        carrier_leg_id=None, state="ended", result="returned", cause=None, deadline=None, created_at=NOON,
        accepted_at=None, bridged_at=at(40), ended_at=at(50), left_at=None, closed_at=None,
    )  # fmt: skip
    use = CallUse(
        call=call,
        agents=[AgentProviders(template_id=FRONT, stt="elevenlabs"), AgentProviders(template_id=BILLING)],
        routes=[route, replace(route, status="failed", switched_at=None)],
        switches=[switched("stt", 30, "elevenlabs"), switched("tts", 20, "deepgram")],
        utterances=[said(11, "Hello."), said(12, "Welcome", "greeting"), said(25, "Good bye.")],
        legs=[leg],
    )
    assert stt_seconds(use) == {"elevenlabs": 10 + 10 + 10, "deepgram": 20}
    assert tts_characters(use) == {"elevenlabs": 6, "deepgram": 9}


def test_the_cost_of_models() -> None:
    """The account's price of the model comes first, then that of its provider, then the list price."""
    models = [
        ModelUse(provider="openai", model=name, prompt=3000, cached=1000, completion=500, cost_usd=0.5)
        for name in ("a", "b")
    ]
    use = CallUse(call=make_call(answered_at=None), models=models)
    listed = Prices()
    own = Prices.model_validate(
        {
            "llm": {
                "openai": {"prompt": 1, "completion": 2},
                "openai/b": {"prompt": 10, "cached": 1, "completion": 20},
            }
        }
    )
    assert cost_of(use, listed)["total"] == 1.0
    assert [item["cost"] for item in cost_of(use, own)["items"]] == [0.004, 0.031]
    unknown = cost_of(use, Prices(currency="EUR"))
    assert (unknown["currency"], unknown["total"]) == ("EUR", None)


FIELDS = {
    "visit": OutputField(type="boolean"),
    "count": OutputField(type="integer"),
    "day": OutputField(type="date"),
    "time": OutputField(enum=("morning", "evening")),
    "price": OutputField(type="number"),
}
GOOD = {"visit": True, "count": 3, "day": "2026-12-01", "time": "morning", "price": 9.5}


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"visit": None, "time": None, "price": 3}, True),
        ({"visit": "yes"}, False),
        ({"count": True}, False),
        ({"count": 1.5}, False),
        ({"day": "tomorrow"}, False),
        ({"day": "2026-02-30"}, False),
        ({"time": "noon"}, False),
        ({"more": 1}, False),
    ],
)
def test_an_answer_is_checked_against_the_fields(change: dict[str, Any], fits: bool) -> None:
    """Exactly the fields, each null or of its type; everything else is discarded as a whole."""
    answer = {**GOOD, **change}
    assert checked(FIELDS, json.dumps(answer)) == (answer if fits else None)


def test_an_answer_that_is_no_object_is_discarded() -> None:
    """Neither text nor a list nor an object without the fields is an output."""
    for answer in ("", "[]", "{}", "null", '{"visit": true}'):
        assert checked(FIELDS, answer) is None


def test_the_schema_allows_null() -> None:
    """The model can say that the transcript has no value for a field."""
    schema: Any = schema_of(FIELDS)
    assert schema["required"] == list(FIELDS)
    assert schema["properties"]["day"]["type"] == ["string", "null"]
    assert schema["properties"]["time"]["enum"] == ["morning", "evening", None]
