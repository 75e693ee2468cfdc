"""A waiting caller's handoff ends as abandoned only when the call has ended."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from db import calls, handoff_transitions, handoffs
from db.calls import CallEnd
from db.handoff_transitions import Transition
from db.handoffs import HandoffRecord
from tests.db.seed import SeededAccount
from tests.handoffs.fixtures import DatabaseWithInterruption, HandoffEnvironment, ManualClock
from voicebot.handoffs.handoff_service import HandoffService
from voicebot.handoffs.scheduler import Scheduler


async def stored(env: HandoffEnvironment, handoff: HandoffRecord) -> HandoffRecord:
    return await handoffs.get(env.database, env.account_id, handoff.id)


async def hang_up(env: HandoffEnvironment, world: SeededAccount) -> None:
    end = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=env.clock.now())
    await calls.finish(env.database, world.id, world.call.id, end)


async def test_an_offer_that_is_renewed_after_the_search_is_not_abandoned(
    env: HandoffEnvironment, world: SeededAccount, clock: ManualClock
) -> None:
    """Between search and decision another server offers it again: the caller waits on."""
    await env.operator()
    await env.operator()
    handoff = await env.escalate(world.call.id)
    await env.scheduler.run_once()

    class ServiceAfterAnotherServer(HandoffService):
        async def transition(self, *args: Any, **more: Any) -> HandoffRecord:
            await env.scheduler.run_once()
            return await super().transition(*args, **more)

    service = ServiceAfterAnotherServer(env.database, clock)
    clock.advance(seconds=31)
    await Scheduler(env.database, clock, service, env.presence).run_once()

    now = await stored(env, handoff)
    assert (now.state, now.lease_until) == ("offered", clock.now() + timedelta(seconds=30))
    assert "handoff.abandoned" not in await env.event_types()


@pytest.mark.parametrize("state", ["offered", "claimed"])
async def test_a_lease_that_is_renewed_after_the_decision_does_not_lapse(
    env: HandoffEnvironment, world: SeededAccount, clock: ManualClock, state: str
) -> None:
    """A renewal between decision and statement decides: the offer or the claim stays, with its new lease."""
    user_id, handoff = await env.operator(), await env.escalate(world.call.id)
    await env.scheduler.run_once()
    if state == "claimed":
        await env.service.claim(env.account_id, handoff.id, user_id)
    age = f"UPDATE handoffs SET lease_until = $1 WHERE id = '{handoff.id}'"  # noqa: S608 - an id
    await env.database.execute(age, clock.now() - timedelta(seconds=1))
    renewed = clock.now() + timedelta(minutes=1)

    async def renew() -> None:
        await env.database.execute(age, renewed)

    service = HandoffService(DatabaseWithInterruption(env.database, renew), clock)  # type: ignore[arg-type]
    await env.operator()
    await Scheduler(env.database, clock, service, env.presence).run_once()

    now = await stored(env, handoff)
    assert (now.state, now.lease_until) == (state, renewed)
    assert "handoff.lapsed" not in await env.event_types()


async def test_the_statement_abandons_only_with_an_ended_call(
    env: HandoffEnvironment, world: SeededAccount, clock: ManualClock
) -> None:
    """Whatever was decided, the statement changes nothing while the call lasts or without a call."""
    abandoned = Transition(to="abandoned", at=clock.now(), cause="caller_hung_up")
    without_call, handoff = await env.escalate(), await env.escalate(world.call.id)

    for waiting in (without_call, handoff):
        assert await handoff_transitions.apply(env.database, waiting, abandoned, ended=True) is None
        assert (await stored(env, waiting)).state == "queued"
    await hang_up(env, world)
    ended = await handoff_transitions.apply(env.database, handoff, abandoned, ended=True)

    assert ended is not None
    assert ended.state == "abandoned"
