"""1,000 interleavings of what operators, callers, time and dying processes do to a handoff."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from uuid import UUID

import pytest

from db import calls, handoffs, inbound
from db.calls import CallEnd
from db.errors import DatabaseBusy
from db.handoffs import HandoffRecord
from db.ids import new_id
from handlers.context import HandoffRequest
from tests.db.seed import SeededAccount, webhook
from tests.handoffs.fixtures import HandoffEnvironment, ManualClock
from voicebot.handoffs import transitions
from voicebot.handoffs.create import call_hand_off
from voicebot.handoffs.scheduler import Scheduler
from voicebot.handoffs.transitions import IllegalTransition, StaleClaim
from voicebot.handoffs.withdrawals import Withdrawals

INTERLEAVINGS = 1000
BLOCK = 250
STEPS = 10
REFUSALS = (
    StaleClaim,
    IllegalTransition,
    transitions.AlreadyClaimed,
    transitions.CapacityReached,
    DatabaseBusy,
)


class Interleaving:
    """One call with an open escalation, and what happens to it in a random order."""

    def __init__(
        self, env: HandoffEnvironment, world: SeededAccount, staff: list[UUID], chance: random.Random
    ) -> None:
        self.env, self.world, self.staff, self.chance = env, world, staff, chance
        self.requests = Withdrawals(env.database, env.clock, env.service)
        self.schedulers = [Scheduler(env.database, env.clock, env.service, env.presence) for _ in range(2)]
        self.hung_up_at: datetime | None = None
        self.may_have_ended = False
        """Whether the caller stopped waiting, or an operator closed the request."""
        self.done: list[str] = []

    async def run(self) -> None:
        """Do the steps, two at once now and then, and check after each."""
        e164 = self.world.number.e164
        self.call = (await inbound.begin(self.env.database, webhook(e164, f"CA{new_id().hex}"))).call
        self.handoff = await self.env.escalate(self.call.id)
        steps: list[Callable[[], Awaitable[object]]] = [
            self.claim, self.claim, self.decline, self.release, self.heartbeat, self.lapse, self.work,
            self.work, self.kill, self.hang_up, self.resolve, self.leave, self.park,
        ]  # fmt: skip
        for _ in range(STEPS):
            at_once = self.chance.choices(steps, k=self.chance.choice((1, 1, 2)))
            self.done += [step.__name__ for step in at_once]
            # What the caller or an operator is about to do may be done when the check is made.
            await asyncio.gather(*(step() for step in at_once))
            await self.check()
        await self.finish()

    async def stored(self) -> HandoffRecord:
        return await handoffs.get(self.env.database, self.env.account_id, self.handoff.id)

    # --------------------------------------------------------------------------------- steps

    async def _as_operator(self, work: Callable[[UUID], Awaitable[object]]) -> None:
        with suppress(*REFUSALS):
            await work(self.chance.choice(self.staff))

    async def claim(self) -> None:
        await self._as_operator(lambda who: self.env.service.claim(self.env.account_id, self.handoff.id, who))

    async def decline(self) -> None:
        await self._as_operator(
            lambda who: self.env.service.decline(self.env.account_id, self.handoff.id, who)
        )

    async def release(self) -> None:
        await self._as_operator(
            lambda who: self.env.service.release(self.env.account_id, self.handoff.id, who)
        )

    async def resolve(self) -> None:
        async def work(who: UUID) -> None:
            await self.env.service.resolve(self.env.account_id, self.handoff.id, who, resolution="done")
            self.may_have_ended = True

        await self._as_operator(work)

    async def heartbeat(self) -> None:
        for who in self.staff:
            await self.env.presence.heartbeat(self.env.account_id, who)

    async def lapse(self) -> None:
        assert isinstance(self.env.clock, ManualClock)
        self.env.clock.advance(seconds=self.chance.choice((1, 31, 125, 181)))

    async def work(self) -> None:
        await asyncio.gather(*(scheduler.run_once() for scheduler in self.schedulers))

    async def kill(self) -> None:
        """A process dies in the middle of its work."""
        dying = asyncio.create_task(self.schedulers[0].run_once())
        for _ in range(self.chance.randrange(40)):
            await asyncio.sleep(0)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)

    async def hang_up(self) -> None:
        if self.hung_up_at is None and self.chance.random() < 0.5:
            self.hung_up_at = self.env.clock.now()
            end = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=self.hung_up_at)
            await calls.finish(self.env.database, self.env.account_id, self.call.id, end)

    async def leave(self) -> None:
        if self.chance.random() < 0.3:
            self.may_have_ended = True
            await self.requests.withdraw(self.env.account_id, self.call.id, "caller_returned")

    async def park(self) -> None:
        if self.chance.random() < 0.3:
            self.may_have_ended = True
            request = HandoffRequest(intent="park", reason="later")
            write = call_hand_off(self.env.clock, assess=False, wake=lambda: None)(self.call, request)
            await write(self.env.database)

    # -------------------------------------------------------------------------------- checks

    async def check(self) -> None:
        """Nothing ends without a cause, and every claim is counted once."""
        now = await self.stored()
        if now.ended_at is not None:
            assert self.may_have_ended or self.hung_up_at is not None, (self.done, now.state, now.cause)
        if now.state == "abandoned":
            assert self.hung_up_at is not None, (self.done, now.cause)
        assert now.state != "expired", self.done
        counted = await self.env.database.fetch(
            """
            SELECT holding, (
                SELECT count(*) FROM handoffs WHERE claimed_by = operators.user_id AND ended_at IS NULL
            ) AS held
            FROM operators WHERE user_id = ANY($1::uuid[])
            """,
            self.staff,
        )
        assert len(counted) == len(self.staff)
        assert [row["holding"] for row in counted] == [row["held"] for row in counted], self.done

    async def finish(self) -> None:
        """After the hang-up everything settles: one end, or a claim of an operator who is there."""
        if self.hung_up_at is None:
            self.hung_up_at = self.env.clock.now()
            end = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=self.hung_up_at)
            await calls.finish(self.env.database, self.env.account_id, self.call.id, end)
        for _ in range(3):
            await self.work()
        now = await self.stored()
        assert now.ended_at is not None or now.claimed_by is not None, (self.done, now.state)
        rows = await self.env.database.fetch(
            "SELECT type FROM handoff_events WHERE handoff_id = $1 AND data ->> 'state' = ANY($2::text[])",
            self.handoff.id,
            ["resolved", "abandoned", "expired", "cancelled", "converted_to_park"],
        )
        assert len(rows) == (now.ended_at is not None), (self.done, [row["type"] for row in rows])
        # The next interleaving begins with free operators.
        await self.env.database.execute("UPDATE operators SET holding = 0")
        await self.env.database.execute(
            """
            UPDATE handoffs SET state = 'cancelled', claimed_by = NULL, ended_at = now()
            WHERE ended_at IS NULL
            """
        )


@pytest.mark.long
@pytest.mark.parametrize("first", range(0, INTERLEAVINGS, BLOCK))
async def test_no_waiting_caller_is_ended_unless_somebody_hung_up(
    env: HandoffEnvironment, world: SeededAccount, first: int
) -> None:
    """Whatever happens in whatever order, a request ends once, and only by its caller or an operator."""
    staff = [await env.operator(capacity=2) for _ in range(3)]
    for seed in range(first, first + BLOCK):
        chance = random.Random(seed)
        for who in staff:
            await env.presence.heartbeat(env.account_id, who)
        await Interleaving(env, world, staff, chance).run()
