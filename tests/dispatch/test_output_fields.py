"""The answer of the model that fills output fields is used only if it fits them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from templates.outbound import OutputField
from voicebot.dispatch.output_fields import checked

FIELDS = {
    "wants_visit": OutputField(type="boolean"),
    "amount": OutputField(type="number"),
    "pieces": OutputField(type="integer"),
    "day": OutputField(type="date"),
    "mood": OutputField(enum=("good", "bad")),
}
GOOD = {"wants_visit": True, "amount": 12.5, "pieces": 3, "day": "2026-12-01", "mood": "good"}


@pytest.mark.parametrize("more", [{}, {"amount": 12, "mood": None}, dict.fromkeys(FIELDS)])
def test_values_that_fit_are_kept(more: dict[str, Any]) -> None:
    """Each value may be null."""
    answer = GOOD | more
    assert checked(FIELDS, json.dumps(answer)) == answer


@pytest.mark.parametrize(
    "more",
    [
        {"amount": float("nan")},
        {"amount": float("-inf")},
        {"amount": 1e300},
        {"pieces": 10**400},
        {"pieces": 3.5},
        {"pieces": True},
        {"wants_visit": "yes"},
        {"day": "tomorrow"},
        {"day": "2026-02-30"},
        {"mood": "sad"},
        {"colour": "red"},
    ],
)
def test_an_answer_with_another_value_is_not_used(more: dict[str, Any]) -> None:
    """Of another type, not in the list, no number of JSON, or for a field that does not exist."""
    assert checked(FIELDS, json.dumps(GOOD | more)) is None


@pytest.mark.parametrize(
    "answer", ["", "Yes.", "[1]", "null", "[" * 100_000, json.dumps({"mood": "good"}), '{"amount": 1e999}']
)
def test_an_answer_that_is_no_such_document_is_not_used(answer: str) -> None:
    """It is not JSON, not an object, or lacks fields."""
    assert checked(FIELDS, answer) is None
