"""What supervisors do, and how a request of a call ends without a person."""

from __future__ import annotations

import asyncio

import pytest

from db import calls, handoffs
from db.calls import CallEnd
from db.handoffs import HandoffRecord, QueueFilter
from db.pool import Database
from handlers.context import HandoffRequest
from tests.db.seed import SeededAccount
from tests.handoffs.fixtures import HandoffEnvironment, ManualClock
from voicebot.handoffs.create import call_hand_off
from voicebot.handoffs.supervision import Supervision
from voicebot.handoffs.transitions import CapacityReached, IllegalTransition, StaleClaim
from voicebot.handoffs.withdrawals import Withdrawals


@pytest.fixture
def supervision(env: HandoffEnvironment) -> Supervision:
    return Supervision(env.database, env.clock, env.service)


@pytest.fixture
def requests(env: HandoffEnvironment) -> Withdrawals:
    return Withdrawals(env.database, env.clock, env.service)


async def stored(env: HandoffEnvironment, handoff: HandoffRecord) -> HandoffRecord:
    return await handoffs.get(env.database, env.account_id, handoff.id)


async def hang_up(env: HandoffEnvironment, world: SeededAccount) -> None:
    end = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=env.clock.now())
    await calls.finish(env.database, env.account_id, world.call.id, end)


async def test_a_supervisor_releases_the_claim_of_another(
    env: HandoffEnvironment,
) -> None:
    """An operator cannot, a supervisor can; the operator's claim is no longer counted."""
    holder, other = await env.operator(), await env.operator()
    handoff = await env.escalate()
    await env.service.claim(env.account_id, handoff.id, holder)
    with pytest.raises(StaleClaim):
        await env.service.release(env.account_id, handoff.id, other)
    released = await env.service.release(env.account_id, handoff.id, other, supervises=True)

    assert (released.state, released.claimed_by) == ("queued", None)
    assert (await env.presence.get(env.account_id, holder)).operator.holding == 0


async def test_a_handoff_is_cancelled_once(env: HandoffEnvironment, supervision: Supervision) -> None:
    """Cancelling ends it with the reason; again it changes nothing; an operator needs the claim."""
    operator, boss = await env.operator(), await env.user("admin")
    handoff = await env.escalate()
    with pytest.raises(StaleClaim):
        await supervision.cancel(env.account_id, handoff.id, operator)
    cancelled = await supervision.cancel(
        env.account_id, handoff.id, boss, reason="helped elsewhere", supervises=True
    )
    again = await supervision.cancel(env.account_id, handoff.id, boss, supervises=True)

    assert (cancelled.state, cancelled.cause) == ("cancelled", "helped elsewhere")
    assert again == cancelled
    assert (await env.event_types()).count("handoff.cancelled") == 1
    with pytest.raises(IllegalTransition):
        await supervision.reassign(env.account_id, handoff.id, boss, operator, supervises=True)


async def test_a_handoff_is_reassigned_within_capacity(
    env: HandoffEnvironment, supervision: Supervision
) -> None:
    """The other operator holds a new claim, the first one none; a full operator is refused."""
    holder, other = await env.operator(), await env.operator(capacity=1)
    first, second = await env.escalate(), await env.escalate()
    for handoff in (first, second):
        await env.service.claim(env.account_id, handoff.id, holder)
    moved = await supervision.reassign(env.account_id, first.id, holder, other)
    with pytest.raises(CapacityReached):
        await supervision.reassign(env.account_id, second.id, holder, other)

    assert (moved.state, moved.claimed_by, moved.epoch) == ("claimed", other, 2)
    holding = [(await env.presence.get(env.account_id, each)).operator.holding for each in (holder, other)]
    assert holding == [1, 1]
    with pytest.raises(StaleClaim):
        await env.service.resolve(env.account_id, first.id, holder, resolution="mine")


async def test_two_supervisors_swap_claims_without_a_deadlock(
    env: HandoffEnvironment, supervision: Supervision
) -> None:
    """Reassignments in opposite directions at the same time both succeed."""
    one, two, boss = await env.operator(), await env.operator(), await env.user("admin")
    for _ in range(10):
        first, second = await env.escalate(), await env.escalate()
        await env.service.claim(env.account_id, first.id, one)
        await env.service.claim(env.account_id, second.id, two)
        moved = await asyncio.gather(
            supervision.reassign(env.account_id, first.id, boss, two, supervises=True),
            supervision.reassign(env.account_id, second.id, boss, one, supervises=True),
        )
        assert [each.claimed_by for each in moved] == [two, one]
        for handoff in moved:
            await supervision.cancel(env.account_id, handoff.id, boss, supervises=True)


async def test_a_park_of_a_live_call_converts_its_escalation(
    env: HandoffEnvironment, world: SeededAccount, clock: ManualClock, database: Database
) -> None:
    """The escalation is converted, the park continues it with its priority; a repeated write adds nothing."""
    asked = await env.escalate(world.call.id, priority="high", team="billing")
    request = HandoffRequest(intent="park", reason="call back")
    write = call_hand_off(clock, assess=False, wake=lambda: None)(world.call, request)
    await write(database)
    await write(database)

    queue = await handoffs.queue(database, world.id, QueueFilter(), limit=5)
    [park] = queue.items
    assert (park.intent, park.continues_id, park.priority) == ("park", asked.id, "high")
    assert (park.team, park.consent, "wants a person" in park.notes) == ("billing", True, True)
    assert ((await stored(env, asked)).state, (await stored(env, asked)).call_state) == (
        "converted_to_park",
        "parked",
    )


async def test_a_caller_who_returns_to_the_agent_withdraws_the_request(
    env: HandoffEnvironment, world: SeededAccount, requests: Withdrawals
) -> None:
    """The request is cancelled; withdrawing again changes nothing."""
    asked = await env.escalate(world.call.id)
    for _ in range(2):
        await requests.withdraw(env.account_id, world.call.id, "caller_returned")
    after = await stored(env, asked)
    assert (after.state, after.cause) == ("cancelled", "caller_returned")


async def test_a_claimed_request_does_not_end_because_the_wait_was_long(
    env: HandoffEnvironment, world: SeededAccount, requests: Withdrawals
) -> None:
    """An unclaimed request expires when the wait is over; a claimed one stays its operator's."""
    asked, operator = await env.escalate(world.call.id), await env.operator()
    await env.service.claim(env.account_id, asked.id, operator)
    await requests.withdraw(env.account_id, world.call.id, "wait_over")
    assert (await stored(env, asked)).state == "claimed"
    await env.service.release(env.account_id, asked.id, operator)
    await requests.withdraw(env.account_id, world.call.id, "wait_over")
    after = await stored(env, asked)
    assert (after.state, after.cause) == ("expired", "wait_over")


async def test_a_claim_that_ends_after_the_hang_up_becomes_a_call_back(
    env: HandoffEnvironment, world: SeededAccount
) -> None:
    """Released or lapsed, it is a park that is due, and not abandoned: the caller's number is known."""
    asked, operator = await env.escalate(world.call.id), await env.operator()
    await env.service.claim(env.account_id, asked.id, operator)
    await hang_up(env, world)
    await env.scheduler.run_once()
    await env.service.release(env.account_id, asked.id, operator)
    await env.scheduler.run_once()
    await env.scheduler.run_once()

    after = await stored(env, asked)
    assert (after.state, after.cause) == ("converted_to_park", "caller_hung_up")
    [park] = (await handoffs.queue(env.database, env.account_id, QueueFilter(), limit=5)).items
    assert (park.state, park.continues_id) == ("offered", asked.id)
    assert "handoff.abandoned" not in await env.event_types()
