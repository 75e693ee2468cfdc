"""Offers respect the capacity that an operator has left, and nothing happens without a reason."""

from __future__ import annotations

import asyncio

from db import handoffs
from db.handoffs import HandoffRecord, QueueFilter
from tests.handoffs.fixtures import HandoffEnvironment, ManualClock
from voicebot.handoffs.presence import PresenceChange


async def offered(env: HandoffEnvironment) -> list[HandoffRecord]:
    where = QueueFilter(state="offered")
    return list((await handoffs.queue(env.database, env.account_id, where, limit=100)).items)


async def test_capacity_1_and_50_waiting_is_one_offer_without_event_churn(
    env: HandoffEnvironment, clock: ManualClock
) -> None:
    """An operator with room for one is offered the first of 50; in 95 s without an answer nothing happens."""
    user_id = await env.operator(capacity=1)
    made = [await env.escalate() for _ in range(50)]
    await env.scheduler.run_once()
    assert [(one.id, one.offered_to) for one in await offered(env)] == [(made[0].id, user_id)]
    before = len(await env.events())

    for _ in range(95):
        clock.advance(seconds=1)
        await env.presence.heartbeat(env.account_id, user_id)
        await env.scheduler.run_once()

    assert len(await env.events()) == before
    assert [one.id for one in await offered(env)] == [made[0].id]


async def test_claims_and_open_offers_both_count_against_the_capacity(env: HandoffEnvironment) -> None:
    """With capacity 3 and one claim, two of ten waiting handoffs are offered, also by servers at once."""
    user_id = await env.operator(capacity=3)
    held, *_ = [await env.escalate() for _ in range(11)]
    await env.service.claim(env.account_id, held.id, user_id)

    await asyncio.gather(*(env.scheduler.run_once() for _ in range(4)))
    await env.scheduler.run_once()

    assert len(await offered(env)) == 2


async def test_away_while_holding_a_claim_means_no_new_offers(
    env: HandoffEnvironment, clock: ManualClock
) -> None:
    """The claim stays and is renewed; waiting handoffs are offered again after `idle`."""
    user_id = await env.operator(capacity=2)
    held, waiting = await env.escalate(), await env.escalate()
    await env.service.claim(env.account_id, held.id, user_id)
    away = await env.presence.set(env.account_id, user_id, PresenceChange(status="away"))
    for _ in range(5):
        clock.advance(seconds=100)
        await env.presence.heartbeat(env.account_id, user_id)
        await env.scheduler.run_once()
    assert (away.state, await offered(env)) == ("away", [])
    assert (await handoffs.get(env.database, env.account_id, held.id)).claimed_by == user_id

    await env.presence.set(env.account_id, user_id, PresenceChange(status="idle"))
    await env.scheduler.run_once()

    assert [one.id for one in await offered(env)] == [waiting.id]


async def test_an_unanswered_offer_ends_when_the_operator_has_left(
    env: HandoffEnvironment, clock: ManualClock
) -> None:
    """It returns to the queue after its 30 s if no operator is available, or their capacity is reached."""
    user_id = await env.operator(capacity=1)
    first, second = await env.escalate(), await env.escalate()
    await env.scheduler.run_once()
    await env.service.claim(env.account_id, second.id, user_id)
    clock.advance(seconds=31)
    await env.scheduler.run_once()
    assert await offered(env) == []

    await env.service.release(env.account_id, second.id, user_id)
    await env.scheduler.run_once()
    assert [one.id for one in await offered(env)] == [first.id]
    await env.presence.set(env.account_id, user_id, PresenceChange(status="offline"))
    clock.advance(seconds=31)
    await env.scheduler.run_once()

    assert await offered(env) == []


async def test_an_unanswered_offer_does_not_go_to_someone_who_declined(
    env: HandoffEnvironment, clock: ManualClock
) -> None:
    """While the only other operator has declined it, the offer stays with the first one."""
    user_id, handoff = await env.operator(), await env.escalate()
    await env.service.decline(env.account_id, handoff.id, await env.operator())
    await env.scheduler.run_once()
    before = len(await env.events())
    clock.advance(seconds=31)
    await env.scheduler.run_once()

    assert [one.offered_to for one in await offered(env)] == [user_id]
    assert len(await env.events()) == before
