"""The answer of the model that fills output fields is used only if it fits them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from templates.outbound import OutputField
from tests.handoffs.fixtures import ManualClock
from voicebot.dispatch.output_fields import ModelBusy, OutputModel, checked

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


async def asked(answer: httpx.Response | Exception) -> dict[str, Any] | None:
    """Ask a model whose server gives this answer; it is asked once."""
    requests = []

    def answers(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with httpx.AsyncClient(transport=httpx.MockTransport(answers)) as made:
        http: Any = made
        client = AsyncOpenAI(api_key="k", base_url="https://model.test/v1", http_client=http, max_retries=0)
        try:
            return await OutputModel(client, "small", ManualClock()).fill(FIELDS, [])
        finally:
            assert len(requests) == 1


@pytest.mark.parametrize(
    ("answer", "wants"),
    [
        (httpx.Response(429, headers={"Retry-After": "7"}, json={}), timedelta(seconds=7)),
        (httpx.Response(429, json={}), None),
        (httpx.Response(503, json={}), None),
        (httpx.ReadTimeout("slow"), None),
        (httpx.ConnectError("down"), None),
    ],
)
async def test_a_model_may_be_busy(answer: Any, wants: timedelta | None) -> None:
    """A rate limit, an outage, and no answer in time say so, and when the vendor wants to be asked again."""
    with pytest.raises(ModelBusy) as busy:
        await asked(answer)
    assert busy.value.until == (None if wants is None else ManualClock().now() + wants)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(400, json={}),
        httpx.Response(401, json={}),
        httpx.Response(429, json={"error": {"code": "insufficient_quota", "message": "Pay."}}),
    ],
)
async def test_a_model_that_refuses_is_not_busy(answer: Any) -> None:
    """A request that it cannot fulfil, a refused key and an unpaid account do not pass within minutes."""
    assert await asked(answer) is None
