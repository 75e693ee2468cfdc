"""The bridge under random interleavings of both sides, the carrier's reports and lost processes."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from db import calls, inbound, legs, users
from db.errors import DatabaseError
from db.ids import new_id
from tests.db.seed import SeededAccount, webhook
from tests.handoffs.exchange import PHONE, Exchange, Killed, World, refusal
from tests.handoffs.fixtures import HandoffEnvironment, ManualClock
from voicebot.handoffs.bridge import NotDialable
from voicebot.handoffs.leg_reports import SWEEP_S
from voicebot.handoffs.transitions import IllegalTransition, StaleClaim

STEPS = 14
A_SECOND = timedelta(seconds=1)
REFUSED = (NotDialable, StaleClaim, IllegalTransition)


class Play:
    """One random course of events on a new call."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.alone_since: Any = None
        self.caller_hung_up = self.call_failed = False

    async def run(self) -> None:
        """Play, let everything come to rest, and check what must hold."""
        await self.world.claim()
        for _ in range(STEPS):
            await self._attempt(self.random.choice(self._actions()))
            self._check_alone()
        self.world.exchange.faults.clear()
        await self._rest(4)
        self.world.clock.advance(seconds=60)  # every deadline, and the check of a silent bridge
        await self._rest(4)
        await self.check()

    def _actions(self) -> list[Callable[[], Awaitable[None]]]:
        exchange = self.world.exchange
        actions: list[Callable[[], Awaitable[None]]] = []
        actions += [self._deliver] * 5 + [self._tick] * 2
        actions += [self.world.dial, self._fault, self._kill, self.world.accept, self.world.give_back]
        actions.append(self._hang_up)
        if exchange.lines_of("operator"):
            line, choose = self.world.operator, self.random.choice
            actions += [
                self._line(lambda: exchange.answer(line, choose(["human", "human", "human", "machine"]))),
                self._line(lambda: exchange.press(line, choose(["1", "1", "1", "2", "*", "*", None]))),
                self._line(lambda: exchange.end(line, choose(["completed", "busy", "no_answer"]))),
            ] * 2
        return actions

    async def _hang_up(self) -> None:
        self.caller_hung_up = True
        self.world.exchange.end(self.world.caller, "completed")

    @staticmethod
    def _line(change: Callable[[], None]) -> Callable[[], Awaitable[None]]:
        async def action() -> None:
            change()

        return action

    async def _attempt(self, action: Callable[[], Awaitable[None]]) -> None:
        with contextlib.suppress(*REFUSED, Killed):
            await action()
        await self.world.settle()

    async def _deliver(self) -> None:
        pending = self.world.exchange.pending
        if not pending:
            return
        what, report = pending.pop(self.random.randrange(len(pending)))
        try:
            for _ in range(self.random.choice([1, 1, 2])):
                await report()
                await self.world.settle()
        except Killed:
            if what in ("whisper", "key", "left"):  # the carrier got no instructions
                self.world.exchange.end(self.world.operator, "completed")
            elif what == "resume":
                self.call_failed = True
                self.world.exchange.end(self.world.caller, "completed")

    async def _tick(self) -> None:
        self.world.clock.advance(seconds=SWEEP_S)
        await self.world.legs.sweep()

    async def _fault(self) -> None:
        request = self.random.choice(["dial", "join", "redirect", "hang_up", "is_live"])
        uncertain = self.random.random() < 0.5
        self.world.exchange.faults.append((request, refusal(uncertain=uncertain), uncertain))

    async def _kill(self) -> None:
        request = self.random.choice(["dial", "join", "redirect", "hang_up"])
        self.world.exchange.faults.append((request, Killed(), self.random.random() < 0.5))
        self.world.start()

    async def _rest(self, seconds: float) -> None:
        until = self.world.clock.now() + timedelta(seconds=seconds)
        while self.world.clock.now() < until:
            with contextlib.suppress(Killed, DatabaseError):
                await self._tick()
            await self.world.settle()
            while self.world.exchange.pending:
                await self._deliver()
            self._check_alone()

    def _check_alone(self) -> None:
        """A caller is not alone in a conference, and so in silence, for more than 2 s."""
        caller, now = self.world.caller, self.world.clock.now()
        operators = [line for line in self.world.exchange.lines_of("operator") if line.is_live]
        if caller.place != "room" or operators:
            self.alone_since = None
            return
        self.alone_since = self.alone_since or now
        assert self.world.exchange.pending or now - self.alone_since <= 2 * A_SECOND

    async def check(self) -> None:
        """Check what must hold when everything has come to rest."""
        world = self.world
        caller, call, handoff = world.caller, await world.call(), await world.handoff()
        connected = caller.place == "room"
        if connected:
            assert world.operator.place == "room"
            assert handoff.state == "bridged"
        else:
            assert not [line for line in world.exchange.lines_of("operator") if line.is_live]
            assert handoff.state in ("claimed", "queued", "resolved"), handoff.state
        if caller.is_live and not connected:
            assert (caller.place, call.status) == ("agent", "in_progress")
        if not caller.is_live:
            assert call.status == "ended"
            # Nobody who waits is ended: a caller or an operator has hung up, or the carrier got no answer.
            has_resolved = handoff.state == "resolved" and handoff.cause != "returned"
            assert self.caller_hung_up or self.call_failed or has_resolved
            for line in world.exchange.lines_of("operator"):
                assert line.over_at is not None
                assert call.ended_at is not None
                assert line.over_at - call.ended_at <= A_SECOND, "a leg has outlived its call"
        for leg in await legs.of_call(world.database, world.env.account_id, world.call_id):
            assert connected or (leg.ended_at is not None and leg.left_at is not None), leg
        ends = [
            event.type
            for event in await world.env.events()
            if event.handoff_id == world.handoff_id and event.type in ("handoff.resolved", "handoff.returned")
        ]
        assert len(ends) == (handoff.state == "resolved")


async def play(env: HandoffEnvironment, seeded: SeededAccount, clock: ManualClock, seed: int) -> None:
    """Play one course of events on a new call with a new operator."""
    began = await inbound.begin(env.database, webhook(seeded.number.e164, f"CA{new_id().hex}"))
    call = await calls.answered(env.database, seeded.id, began.call.id, clock.now())
    user_id = await env.operator()
    await users.set_phone(env.database, seeded.id, user_id, PHONE)
    try:
        await Play(World(env, Exchange(clock), call, user_id), seed).run()
    except BaseException:
        print(f"seed {seed}")
        raise


async def test_some_interleavings(env: HandoffEnvironment, world: SeededAccount, clock: ManualClock) -> None:
    """No caller stays alone in a conference, no leg outlives its call, and a handoff ends once."""
    for seed in range(3):
        await play(env, world, clock, seed)


@pytest.mark.long
@pytest.mark.parametrize("first", range(100, 1100, 25))
async def test_a_thousand_interleavings(
    env: HandoffEnvironment, world: SeededAccount, clock: ManualClock, first: int
) -> None:
    """The same for a thousand courses of events."""
    for seed in range(first, first + 25):
        await play(env, world, clock, seed)
