"""What live calls learn of their requests for a person."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

import pytest

from db.pool import Database
from handlers.context import HandoffStatus
from tests.db.seed import SeededAccount
from tests.handoffs.fixtures import HandoffEnvironment, ManualClock
from voicebot.handoffs.call_watch import CallWatch
from voicebot.handoffs.presence import PresenceChange


class HeldCalls:
    """The calls of a process, and what they were told."""

    def __init__(self, *calls: UUID) -> None:
        self.calls = calls
        self.told: dict[UUID, HandoffStatus] = {}

    def held(self) -> Collection[UUID]:
        return self.calls

    def handoff_changed(self, call_id: UUID, status: HandoffStatus) -> None:
        self.told[call_id] = status

    def calling_destinations(self) -> Collection[UUID]:
        return ()

    def not_accepted(self, call_id: UUID, leg_id: UUID, cause: str) -> None:
        raise AssertionError((call_id, leg_id, cause))


@pytest.fixture
def watch(database: Database, clock: ManualClock) -> CallWatch:
    return CallWatch(database, clock)


async def test_a_call_is_told_each_phase(
    env: HandoffEnvironment, world: SeededAccount, watch: CallWatch
) -> None:
    """Waiting, claimed, waiting again with the cause, and ended with the cause."""
    calls, told = HeldCalls(world.call.id), []
    await watch.run_once(calls)
    assert calls.told == {}
    operator = await env.operator()
    handoff = await env.escalate(world.call.id)

    async def look() -> None:
        await watch.run_once(calls)
        status = calls.told[world.call.id]
        told.append((status.phase, status.cause))

    await look()
    await env.service.claim(env.account_id, handoff.id, operator)
    await look()
    await env.service.release(env.account_id, handoff.id, operator, reason="wrong language")
    await look()
    await env.service.claim(env.account_id, handoff.id, operator)
    await env.service.resolve(env.account_id, handoff.id, operator, resolution="done")
    await look()
    assert told == [
        ("waiting", None),
        ("claimed", None),
        ("waiting", "wrong language"),
        ("ended", "resolved"),
    ]


async def test_only_the_calls_of_the_process_are_told(
    env: HandoffEnvironment, world: SeededAccount, watch: CallWatch
) -> None:
    """A process gets no reports of calls that it does not have."""
    await env.escalate(world.call.id)
    calls = HeldCalls(UUID(int=1))
    await watch.run_once(calls)
    assert calls.told == {}


@pytest.mark.parametrize(
    ("presence", "there"),
    [
        (PresenceChange(status="idle", languages=("de",)), False),
        (PresenceChange(status="idle", languages=("en",), teams=("sales",)), False),
        (PresenceChange(status="away", languages=("en",)), False),
        (PresenceChange(status="idle", languages=("en",), teams=("billing",)), True),
        (PresenceChange(status="idle", capacity=0), True),
    ],
)
async def test_somebody_is_there_who_has_the_language_and_the_team(
    env: HandoffEnvironment,
    world: SeededAccount,
    watch: CallWatch,
    presence: PresenceChange,
    there: bool,
) -> None:
    """Presence counts with language and team, also of an operator who has no room at the moment."""
    operator = await env.user()
    await env.presence.set(env.account_id, operator, presence)
    await env.escalate(world.call.id, language="en-US", team="billing")
    calls = HeldCalls(world.call.id)
    await watch.run_once(calls)
    assert calls.told[world.call.id].someone_is_there is there


async def test_an_operator_who_declined_is_not_there_for_it(
    env: HandoffEnvironment, world: SeededAccount, watch: CallWatch
) -> None:
    """When the only operator has declined the handoff, no operator is available."""
    operator = await env.operator()
    handoff = await env.escalate(world.call.id)
    await env.service.decline(env.account_id, handoff.id, operator)
    calls = HeldCalls(world.call.id)
    await watch.run_once(calls)
    assert not calls.told[world.call.id].someone_is_there


async def test_the_expected_wait_is_the_median_of_a_day(
    env: HandoffEnvironment, world: SeededAccount, watch: CallWatch, clock: ManualClock
) -> None:
    """It is unknown with fewer than three claims of the last day, then it is their median."""
    operator = await env.operator(capacity=9)
    calls = HeldCalls(world.call.id)
    for minutes in (1, 5, 3):
        handoff = await env.escalate()
        clock.advance(minutes=minutes)
        await env.presence.heartbeat(env.account_id, operator)
        await env.service.claim(env.account_id, handoff.id, operator)
    await env.escalate(world.call.id)
    await watch.run_once(calls)
    assert calls.told[world.call.id].expected_wait_ms == 3 * 60_000
    clock.advance(hours=25)
    await watch.run_once(calls)
    assert calls.told[world.call.id].expected_wait_ms is None
