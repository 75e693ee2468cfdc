"""A state machine test of handoffs: invariants are checked after every operation, in any order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from db import accounts, handoff_events, handoffs, operators
from db.handoff_transitions import Transition
from db.handoffs import State
from db.open_handoffs import held_by
from db.pool import Database
from tests.handoffs.fixtures import HandoffEnvironment, ManualClock
from voicebot.availability import IllegalMove
from voicebot.handoffs import transitions
from voicebot.handoffs.create import Reschedule
from voicebot.handoffs.presence import PresenceChange
from voicebot.handoffs.transitions import AlreadyClaimed, CapacityReached, IllegalTransition, StaleClaim

ResultT = TypeVar("ResultT")
REFUSALS = (AlreadyClaimed, CapacityReached, StaleClaim, IllegalTransition, IllegalMove)
TELEPHONE: frozenset[State] = frozenset({"transferring", "bridged", "connected", "dialing", "failed"})
RIGHTLY = st.sampled_from([True, True, False])
"""Mostly operations that can succeed: random choices hardly ever find a claim and its holder."""
USER, HANDOFF = st.integers(0, 2), st.integers(0, 5)


@pytest.fixture
def runner(dsn: str) -> Iterator[tuple[asyncio.Runner, Database]]:
    """An event loop and a database for all examples."""
    with asyncio.Runner() as opened:
        database = opened.run(Database.connect(dsn))
        yield opened, database
        opened.run(database.close())


@pytest.mark.hypothesis
def test_invariants_of_handoffs(  # noqa: C901 - the machine is its body
    runner: tuple[asyncio.Runner, Database],
) -> None:
    """Claims and counters agree, final states stay, and events have no gap and follow the table."""
    loop, database = runner

    class Handoffs(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            account = self.run(accounts.create(database, "Acme"))
            self.clock = ManualClock()
            self.env = HandoffEnvironment(database, account.id, self.clock)
            self.people = [self.run(self.env.operator(capacity=2)) for _ in range(3)]
            self.made: list[UUID] = [self.run(self.env.escalate()).id for _ in range(2)]
            self.ended: dict[UUID, State] = {}
            self.seq = 0
            """That of the last event that was looked at."""
            # So that even a short example contains a claim.
            self.run(self.env.service.claim(account.id, self.made[0], self.people[0]))

        def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
            return loop.run(work)

        def attempt(self, work: Coroutine[Any, Any, Any]) -> None:
            try:
                self.run(work)
            except REFUSALS:
                return

        def one(self, which: int) -> UUID | None:
            return self.made[which % len(self.made)] if self.made else None

        def held(self, who: int, which: int, rightly: bool) -> tuple[UUID, UUID] | None:
            """A handoff and a user; if ``rightly``, a claimed handoff and its holder."""
            handoff = self.one(which)
            if rightly and (holding := self.run(self.all_held())):
                return holding[which % len(holding)]
            return (handoff, self.people[who]) if handoff else None

        async def all_waiting(self) -> list[UUID]:
            made = [await handoffs.get(database, self.env.account_id, one) for one in self.made]
            return [one.id for one in made if "claimed" in transitions.allowed(one.intent, one.state)]

        async def all_held(self) -> list[tuple[UUID, UUID]]:
            account = self.env.account_id
            return [(each.id, one) for one in self.people for each in await held_by(database, account, one)]

        @rule(park=st.booleans(), consent=st.booleans())
        def make(self, park: bool, consent: bool) -> None:
            due_at = self.clock.now()
            made = self.env.park(due_at, consent=consent) if park else self.env.escalate()
            self.made.append(self.run(made).id)

        @rule(who=USER, which=HANDOFF, rightly=RIGHTLY)
        def claim(self, who: int, which: int, rightly: bool) -> None:
            waiting = self.run(self.all_waiting()) if rightly else []
            if handoff := waiting[which % len(waiting)] if waiting else self.one(which):
                self.attempt(self.env.service.claim(self.env.account_id, handoff, self.people[who]))

        @rule(who=USER, which=HANDOFF, rightly=RIGHTLY, epoch=st.none() | st.integers(0, 2))
        def release(self, who: int, which: int, rightly: bool, epoch: int | None) -> None:
            if pair := self.held(who, which, rightly):
                self.attempt(self.env.service.release(self.env.account_id, *pair, epoch=epoch))

        @rule(who=USER, which=HANDOFF, rightly=RIGHTLY)
        def decline(self, who: int, which: int, rightly: bool) -> None:
            if pair := self.held(who, which, rightly):
                self.attempt(self.env.service.decline(self.env.account_id, *pair))

        @rule(who=USER, which=HANDOFF, rightly=RIGHTLY, epoch=st.none() | st.integers(0, 2))
        def resolve(self, who: int, which: int, rightly: bool, epoch: int | None) -> None:
            if pair := self.held(who, which, rightly):
                service = self.env.service
                self.attempt(service.resolve(self.env.account_id, *pair, epoch=epoch, resolution="x"))

        @rule(who=USER, which=HANDOFF, rightly=RIGHTLY)
        def reschedule(self, who: int, which: int, rightly: bool) -> None:
            if pair := self.held(who, which, rightly):
                later = Reschedule(due_at=self.clock.now())
                self.attempt(self.env.service.reschedule(self.env.account_id, *pair, later))

        @rule(
            which=HANDOFF,
            rightly=RIGHTLY,
            to=st.sampled_from(sorted(TELEPHONE)),
        )
        def telephone(self, which: int, rightly: bool, to: State) -> None:
            if pair := self.held(0, which, rightly):
                handoff, _ = pair
                seen = self.run(handoffs.get(database, self.env.account_id, handoff))
                likely = sorted((TELEPHONE - {"failed"}) & transitions.allowed(seen.intent, seen.state))
                to = likely[which % len(likely)] if rightly and likely else to

                def decide(seen: handoffs.HandoffRecord) -> Transition:
                    final = transitions.is_final(seen.intent, to)
                    return Transition(
                        to=to, at=self.clock.now(), claimed_by=None if final else seen.claimed_by
                    )

                self.attempt(self.env.service.transition(self.env.account_id, handoff, decide))

        @rule(who=USER, status=st.sampled_from(["idle", "idle", "away", "offline", "exhausted", "relieved"]))
        def presence(self, who: int, status: Any) -> None:
            until = self.clock.now() + timedelta(seconds=30) if status == "exhausted" else None
            setting = PresenceChange(status=status, until=until)
            self.attempt(self.env.presence.set(self.env.account_id, self.people[who], setting))

        @rule(who=USER)
        def heartbeat(self, who: int) -> None:
            self.run(self.env.presence.heartbeat(self.env.account_id, self.people[who]))

        @rule(seconds=st.sampled_from([1, 31, 121, 200, 20_000]))
        def wait(self, seconds: int) -> None:
            self.clock.advance(seconds=seconds)

        @rule()
        def keep(self) -> None:
            self.run(self.env.scheduler.run_once())

        @invariant()
        def it_all_holds(self) -> None:
            self.run(self.look())

        async def look(self) -> None:
            account = self.env.account_id
            held: dict[UUID, list[State]] = {one: [] for one in self.people}
            for handoff_id in self.made:
                handoff = await handoffs.get(database, account, handoff_id)
                over = transitions.is_final(handoff.intent, handoff.state)
                assert over == (handoff.ended_at is not None), handoff.state
                assert self.ended.setdefault(handoff_id, handoff.state) == handoff.state if over else True
                if handoff.intent == "park" and not handoff.consent:
                    assert handoff.state in ("scheduled", "resolved", "expired")
                if handoff.claimed_by is not None:
                    assert not over
                    held[handoff.claimed_by].append(handoff.state)
            for one in self.people:
                operator = await operators.ensure(database, account, one)
                continued = [
                    each for each in await held_by(database, account, one) if each.id not in self.made
                ]
                states = held[one] + [each.state for each in continued]
                assert operator.holding == len(states)
                assert operator.bridged == sum(state in transitions.CONNECTED for state in states)
                assert 0 <= operator.holding <= operator.capacity
            events = await handoff_events.after(database, account, self.seq, limit=10_000)
            assert [event.seq - self.seq for event in events] == list(range(1, len(events) + 1))
            self.seq += len(events)

        def teardown(self) -> None:
            self.run(self.every_event_is_a_move())

        async def every_event_is_a_move(self) -> None:
            was: dict[UUID, tuple[Any, State]] = {}
            events = await self.env.events()
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            for event in events:
                if event.handoff_id is None or event.type == "handoff.assessed":
                    continue
                intent, state = event.data["intent"], event.data["state"]
                if event.handoff_id in was:
                    before = was[event.handoff_id][1]
                    assert state in transitions.allowed(intent, before), (before, event.type, state)
                was[event.handoff_id] = (intent, state)

    Handoffs.TestCase.settings = settings(deadline=None)
    run_state_machine_as_test(
        Handoffs,
        settings=settings(
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
