"""Notices are per need: a returned handoff, a due call-back, and a handoff that is not claimed."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from db import calls, channels, handoffs, notices, utterances
from db.calls import CallEnd
from db.handoffs import HandoffRecord
from db.outbox import NoticeRecord
from db.pool import Database
from tests.db.seed import SeededAccount, make_utterance
from tests.handoffs.fixtures import HandoffEnvironment, ManualClock


async def notices_of(env: HandoffEnvironment, handoff: HandoffRecord) -> list[NoticeRecord]:
    return list(await notices.of_handoff(env.database, env.account_id, handoff.id))


async def mailed(env: HandoffEnvironment, handoff: HandoffRecord) -> list[tuple[UUID | None, str]]:
    """Recipient and subject of each mail about a handoff, in order."""
    return [(one.user_id, one.message["subject"]) for one in await notices_of(env, handoff)]


async def stored(env: HandoffEnvironment, handoff: HandoffRecord) -> HandoffRecord:
    return await handoffs.get(env.database, env.account_id, handoff.id)


async def hang_up(env: HandoffEnvironment, world: SeededAccount) -> None:
    end = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=env.clock.now())
    await calls.finish(env.database, env.account_id, world.call.id, end)


async def test_a_released_handoff_is_notified_again(env: HandoffEnvironment) -> None:
    """A claim cancels the unsent notices; its release notifies everybody but who released it."""
    ada, bob = await env.operator(email="ada@example.com"), await env.user(email="bob@example.com")
    handoff = await env.escalate()
    await env.service.claim(env.account_id, handoff.id, ada)
    await env.service.release(env.account_id, handoff.id, ada)

    first, again = (await mailed(env, handoff))[:2], (await mailed(env, handoff))[2:]
    assert {user for user, _ in first} == {ada, bob}
    assert again == [(bob, "A caller needs a person again")]
    assert [one.state for one in await notices_of(env, handoff)] == ["cancelled", "cancelled", "waiting"]


async def test_a_handoff_that_the_only_operator_declined_is_notified_again(env: HandoffEnvironment) -> None:
    """While another operator can be offered it, declining an offer sends no notices."""
    ada, bob = await env.operator(), await env.operator()
    away = await env.user(email="away@example.com")
    handoff = await env.escalate()
    await env.scheduler.run_once()
    first = (await stored(env, handoff)).offered_to
    assert first is not None
    await env.service.decline(env.account_id, handoff.id, first)
    assert len(await notices_of(env, handoff)) == 1
    await env.scheduler.run_once()
    second = (await stored(env, handoff)).offered_to
    assert {first, second} == {ada, bob}
    await env.service.decline(env.account_id, handoff.id, second or ada)
    assert (await mailed(env, handoff))[1:] == [(away, "A caller needs a person again")]


async def test_a_lapsed_claim_is_notified_again(env: HandoffEnvironment, clock: ManualClock) -> None:
    """A claim without a sign of life returns to the queue, and people are asked again."""
    ada = await env.operator(email="ada@example.com")
    handoff = await env.escalate()
    await env.service.claim(env.account_id, handoff.id, ada)
    clock.advance(minutes=4)
    await env.scheduler.run_once()
    assert (ada, "A caller needs a person again") in await mailed(env, handoff)


async def test_a_due_call_back_is_mailed_and_offered(env: HandoffEnvironment, clock: ManualClock) -> None:
    """When its time comes there is a notice, and an operator is offered it as any other handoff."""
    ada = await env.operator(email="ada@example.com")
    park = await env.park(clock.now() + timedelta(minutes=1))
    assert await notices_of(env, park) == []
    clock.advance(minutes=1)
    await env.presence.heartbeat(env.account_id, ada)
    await env.scheduler.run_once()

    assert await mailed(env, park) == [(ada, "A call-back is due")]
    offered = await stored(env, park)
    assert (offered.state, offered.offered_to, offered.call_state) == ("offered", ada, "parked")
    clock.advance(seconds=31)
    await env.service.decline(env.account_id, park.id, ada)
    assert (await stored(env, park)).state == "due"
    claimed = (await env.service.claim(env.account_id, park.id, ada)).handoff
    assert (claimed.state, claimed.call_state) == ("claimed", "active")


async def test_what_nobody_claims_goes_to_admins_and_then_to_owners(
    env: HandoffEnvironment, clock: ManualClock
) -> None:
    """After the author's time the admins are notified, after twice that time the owners, each once."""
    await env.user("operator", email="operator@example.com")
    admin = await env.user("admin", email="admin@example.com")
    owner = await env.user("owner", email="owner@example.com")
    handoff = await env.escalate(escalate_after_ms=120_000)
    told = []
    for _ in range(5):
        clock.advance(minutes=1)
        for _ in range(2):
            await env.scheduler.run_once()
        told.append([user for user, _ in (await mailed(env, handoff))[3:]])

    assert told == [[], [admin], [admin], [admin, owner], [admin, owner]]
    assert (await mailed(env, handoff))[-1][1] == "Nobody has taken a request for a person"


async def test_a_claim_ends_the_chain_and_its_return_begins_it_again(
    env: HandoffEnvironment, clock: ManualClock
) -> None:
    """While it is claimed no notices are sent; the author's time counts from the return."""
    ada, admin = await env.operator(capacity=1), await env.user("admin", email="admin@example.com")
    handoff = await env.escalate(escalate_after_ms=60_000)
    await env.service.claim(env.account_id, handoff.id, ada)
    for _ in range(3):
        clock.advance(minutes=1)
        await env.presence.heartbeat(env.account_id, ada)
        await env.scheduler.run_once()
    assert len(await notices_of(env, handoff)) == 1
    await env.service.release(env.account_id, handoff.id, ada)
    clock.advance(seconds=59)
    await env.scheduler.run_once()
    assert [user for user, _ in await mailed(env, handoff)] == [admin, admin]
    clock.advance(seconds=1)
    await env.scheduler.run_once()
    assert [user for user, _ in await mailed(env, handoff)] == [admin, admin, admin]


async def test_the_authors_time_is_that_of_the_template(
    env: HandoffEnvironment, world: SeededAccount, database: Database
) -> None:
    """`waiting.escalate_after_ms` of the agent that has the call is stored with the handoff."""
    await database.execute(
        "UPDATE templates SET content = (content::jsonb || $2::jsonb)::json WHERE id = $1",
        world.call.template_id,
        {"waiting": {"escalate_after_ms": 5000}},
    )
    handoff = await env.escalate(world.call.id)
    row = await database.fetchrow("SELECT escalate_after_ms FROM handoffs WHERE id = $1", handoff.id)
    assert row is not None
    assert row["escalate_after_ms"] == 5000


@pytest.mark.parametrize("end", ["resolved", "expired", "abandoned"])
async def test_a_ticket_has_the_transcript_and_the_assessment(
    env: HandoffEnvironment, world: SeededAccount, clock: ManualClock, database: Database, end: str
) -> None:
    """However a handoff ends, its ticket has what was said on the call, also after it was created."""
    ticket = await channels.create(database, env.account_id, "ticket", "https://example.com/t", secret=None)
    handoff = await env.escalate(world.call.id)
    await utterances.record(database, make_utterance(world, seq=1))
    if end == "resolved":
        ada = await env.operator()
        await env.service.claim(env.account_id, handoff.id, ada)
        await env.service.resolve(env.account_id, handoff.id, ada, resolution="done")
    elif end == "expired":
        clock.advance(hours=5)
        await env.scheduler.run_once()
    else:
        await hang_up(env, world)
        await env.scheduler.run_once()

    [notice] = [one for one in await notices_of(env, handoff) if one.channel_id == ticket.id]
    data = notice.message["data"]
    assert (notice.message["type"], len(data["transcript"])) == (f"handoff.{end}", 1)
    assert set(data["transcript"][0]) == {"speaker", "text"}
    assert "assessment" in data


async def test_a_dead_request_for_help_is_not_sent_once_the_handoff_has_ended(
    env: HandoffEnvironment, database: Database
) -> None:
    """Retried after the end it is cancelled; a dead ticket is sent."""
    await channels.create(database, env.account_id, "ticket", "https://example.com/t", secret=None)
    await env.user(email="bob@example.com")
    ada = await env.operator()
    handoff = await env.escalate()
    await database.execute("UPDATE outbox SET state = 'dead' WHERE handoff_id = $1", handoff.id)
    await env.service.claim(env.account_id, handoff.id, ada)
    await env.service.resolve(env.account_id, handoff.id, ada, resolution="done")
    await database.execute("UPDATE outbox SET state = 'dead' WHERE handoff_id = $1", handoff.id)
    states = {}
    for one in await notices_of(env, handoff):
        states[one.medium] = (await notices.retry(database, env.account_id, one.id, env.clock.now())).state
    assert states == {"email": "cancelled", "ticket": "waiting"}


async def test_the_operator_learns_that_the_caller_hung_up(
    env: HandoffEnvironment, world: SeededAccount
) -> None:
    """A hang-up during a claim is one event of the stream; the claim stays."""
    ada = await env.operator()
    handoff = await env.escalate(world.call.id)
    await env.service.claim(env.account_id, handoff.id, ada)
    await hang_up(env, world)
    for _ in range(3):
        await env.scheduler.run_once()
    left = [event for event in await env.events() if event.type == "handoff.caller_left"]
    assert [(event.handoff_id, event.data["cause"]) for event in left] == [(handoff.id, "caller_hung_up")]
    assert (await stored(env, handoff)).claimed_by == ada
