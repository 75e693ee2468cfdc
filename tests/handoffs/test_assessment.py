"""Assessments by the language model; nothing waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from openai import AsyncOpenAI

from db import handoffs, notices, utterances
from db.handoffs import HandoffDraft, HandoffRecord, Intent
from db.pool import Database
from tests.db.seed import NOON, SeededAccount, make_utterance
from tests.handoffs.fixtures import HandoffEnvironment
from tests.handoffs.receivers import Answer, Receiver, receiver
from voicebot.clock import SystemClock
from voicebot.handoffs.assessment import Assessor
from voicebot.handoffs.handoff_service import HandoffService
from voicebot.outbox import Outbox, OutboxSettings

FAST = OutboxSettings(first_pause=timedelta(milliseconds=10), poll_s=0.02, max_attempts=3)
VALID = {
    "likely_cause": "The invoice was sent twice.",
    "next_steps": ["Check the invoice."],
    "confidence": 0.7,
}


def answering(content: str) -> Answer:
    """A response with a chat completion."""
    message = {"role": "assistant", "content": content}
    document: dict[str, Any] = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }
    return Answer(headers={"Content-Type": "application/json"}, body=json.dumps(document).encode())


@pytest.fixture
async def model() -> AsyncIterator[Receiver]:
    """A stand-in for the model's API."""
    async with receiver() as listening:
        yield listening


@contextlib.asynccontextmanager
async def sending(database: Database, model: Receiver) -> AsyncIterator[None]:
    client = AsyncOpenAI(api_key="k", base_url=f"http://127.0.0.1:{model.port}/v1", max_retries=0)
    assessor = Assessor(database, SystemClock(), client, "m")
    task = asyncio.create_task(Outbox(database, SystemClock(), {"assessment": assessor}, FAST).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


def make_draft(world: SeededAccount, intent: Intent) -> HandoffDraft:
    return HandoffDraft(
        intent=intent, origin="model", reason="double charge", call_id=world.call.id, created_at=NOON
    )


async def escalated(env: HandoffEnvironment, world: SeededAccount) -> HandoffRecord:
    await utterances.record(env.database, make_utterance(world))
    service = HandoffService(env.database, env.clock, assess=True)
    draft = make_draft(world, "escalate")
    return (await service.create(world.id, draft)).handoff


async def settled(env: HandoffEnvironment, handoff: HandoffRecord) -> str:
    async with asyncio.timeout(30):
        while True:
            [notice] = await notices.of_handoff(env.database, handoff.account_id, handoff.id)
            if notice.state in ("sent", "dead"):
                return notice.state
            await asyncio.sleep(0.02)


async def test_an_assessment_arrives_later(
    env: HandoffEnvironment, world: SeededAccount, model: Receiver
) -> None:
    """It is stored, reported in the stream and part of the briefing; the transcript is sent as data."""
    model.answer = lambda _: answering(json.dumps(VALID))
    handoff = await escalated(env, world)
    async with sending(env.database, model):
        assert await settled(env, handoff) == "sent"

    assert (await handoffs.get(env.database, world.id, handoff.id)).assessment == VALID
    [event] = [one for one in await env.events() if one.type == "handoff.assessed"]
    assert (event.kind, event.data["confidence"]) == ("proof_ready", 0.7)
    claim = await env.service.claim(world.id, handoff.id, await env.operator())
    assert claim.briefing.start_here == ["Check the invoice."]
    asked = model.posted[0].document["messages"]
    assert "I have a question" not in asked[0]["content"]
    assert json.loads(asked[1]["content"])["transcript"][0]["text"] == "I have a question"


@pytest.mark.parametrize(
    "content",
    [
        "I think that the caller",
        json.dumps({**VALID, "confidence": 7}),
        json.dumps({**VALID, "next_steps": []}),
        json.dumps({**VALID, "invented": True}),
        "",
    ],
)
async def test_an_answer_that_does_not_match_the_schema_is_discarded(
    env: HandoffEnvironment, world: SeededAccount, model: Receiver, content: str
) -> None:
    """There is no assessment then, and the answer is not logged."""
    model.answer = lambda _: answering(content)
    handoff = await escalated(env, world)
    async with sending(env.database, model):
        assert await settled(env, handoff) == "dead"

    assert (await handoffs.get(env.database, world.id, handoff.id)).assessment is None
    [notice] = await notices.of_handoff(env.database, world.id, handoff.id)
    attempts = await notices.attempts(env.database, world.id, notice.id)
    assert {one.error for one in attempts} == {"the model's answer does not fit the schema"}


async def test_a_hanging_model_delays_no_handoff(
    env: HandoffEnvironment, world: SeededAccount, model: Receiver
) -> None:
    """Handoffs are created, claimed and resolved while the model does not answer."""
    model.answer = lambda _: Answer(after_s=3600)
    first = await escalated(env, world)
    service, user_id = HandoffService(env.database, env.clock, assess=True), await env.operator()
    async with sending(env.database, model):
        async with asyncio.timeout(30):
            while not model.posted:
                await asyncio.sleep(0.01)
        made = [first]
        for _ in range(20):
            draft = make_draft(world, "park")
            made.append((await service.create(world.id, draft)).handoff)
        claim = await service.claim(world.id, first.id, user_id)
        await service.resolve(world.id, first.id, user_id, resolution="helped")

    assert claim.briefing.assessment is None
    for handoff in made:
        [notice] = await notices.of_handoff(env.database, world.id, handoff.id)
        assert (notice.medium, notice.sent_at) == ("assessment", None)
