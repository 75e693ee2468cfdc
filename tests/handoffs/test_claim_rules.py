"""Rules of the claim's statement: they hold without the checks before it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from dataclasses import replace
from datetime import timedelta
from typing import get_args
from uuid import UUID

import pytest

from db import handoff_transitions, handoffs, open_handoffs, operators, users
from db.errors import DatabaseBusy, DatabaseUnavailable, NotFound
from db.handoffs import HandoffRecord
from db.operators import Activity, OperatorRecord, Presence, Quota
from db.pool import Database
from db.users import UserDraft
from tests.db.seed import NOON
from tests.handoffs.fixtures import DatabaseWithInterruption, HandoffEnvironment
from voicebot import availability
from voicebot.availability import IllegalMove
from voicebot.handoffs.handoff_service import HandoffService
from voicebot.handoffs.presence import PresenceChange, Status
from voicebot.handoffs.transitions import CapacityReached, StaleClaim

MINUTE = timedelta(minutes=1)


def every_presence() -> list[Presence]:
    """All facts that affect a claim, with times before, at and after its moment."""
    times = (None, NOON - MINUTE, NOON, NOON + MINUTE)
    return [
        Presence(activity=activity, activity_until=ends, quota=quota, quota_until=until, last_seen_at=seen)
        for activity, ends, quota, until, seen in itertools.product(
            get_args(Activity), times, get_args(Quota), times, (None, NOON - 9 * MINUTE, NOON)
        )
        if (quota == "timed") == (until is not None)
    ]


async def take(database: Database, handoff: HandoffRecord, user_id: UUID) -> HandoffRecord | None:
    """Run the statement alone; roll back if it counted a claim without a handoff."""

    class Undone(Exception):
        pass

    try:
        async with database.transaction() as transaction:
            won = await handoff_transitions.claim(
                transaction, handoff.account_id, handoff.id, user_id, at=NOON, lease_until=NOON + MINUTE
            )
            if won is not None:
                return won
            raise Undone  # noqa: TRY301 - rolls the transaction back
    except Undone:
        return None


async def set_presence(env: HandoffEnvironment, user_id: UUID, presence: Presence) -> OperatorRecord:
    operator = await operators.ensure(env.database, env.account_id, user_id)
    changed = replace(
        operator,
        last_seen_at=presence.last_seen_at,
        activity=presence.activity,
        activity_until=presence.activity_until,
        quota=presence.quota,
        quota_until=presence.quota_until,
    )
    written = await operators.save(env.database, changed)
    assert written is not None
    return written


async def test_the_statement_agrees_with_the_rules_of_presence(env: HandoffEnvironment) -> None:
    """For all facts, it allows a claim exactly when `availability.check_claim` does."""
    user_id = await env.user()
    opinions = set()
    for presence in every_presence():
        operator = await set_presence(env, user_id, presence)
        try:
            availability.check_claim(operator, NOON)
        except IllegalMove:
            allowed = False
        else:
            allowed = True
        handoff = await env.escalate()
        won = await take(env.database, handoff, user_id)

        assert (won is not None) == allowed, presence
        opinions.add(allowed)
        if won is not None:
            await env.service.release(env.account_id, handoff.id, user_id)
    assert opinions == {True, False}


async def test_a_claim_signs_the_operator_on(env: HandoffEnvironment) -> None:
    """A claim is a sign of life in the same statement, so nobody holds one while signed off."""
    user_id = await env.operator()
    await env.presence.set(env.account_id, user_id, PresenceChange(status="offline"))
    assert await take(env.database, await env.escalate(), user_id) is not None

    operator = await operators.ensure(env.database, env.account_id, user_id)
    assert (operator.signed_on, operator.last_seen_at) == (True, NOON)


async def test_a_deactivated_user_cannot_claim(env: HandoffEnvironment) -> None:
    """The statement refuses it, and the service reports that there is no such user."""
    user_id, handoff = await env.operator(), await env.escalate()
    deleted = UserDraft(name="deleted", role="operator", active=False)
    await users.update(env.database, env.account_id, user_id, deleted)

    assert await take(env.database, handoff, user_id) is None
    with pytest.raises(NotFound, match="user"):
        await env.service.claim(env.account_id, handoff.id, user_id)


@pytest.mark.parametrize(
    ("setting", "refusal"),
    [
        (PresenceChange(status="away"), IllegalMove),
        (PresenceChange(status="exhausted"), IllegalMove),
        (PresenceChange(capacity=0), CapacityReached),
        (PresenceChange(status="offline"), None),
    ],
)
async def test_a_change_after_the_check_decides(
    env: HandoffEnvironment, setting: PresenceChange, refusal: type[Exception] | None
) -> None:
    """A change between check and statement is refused with its reason; a claim brings an operator online."""
    user_id, handoff = await env.operator(), await env.escalate()

    async def happens() -> None:
        await env.presence.set(env.account_id, user_id, setting)

    service = HandoffService(DatabaseWithInterruption(env.database, happens), env.clock)  # type: ignore[arg-type]
    if refusal is None:
        await service.claim(env.account_id, handoff.id, user_id)
    else:
        with pytest.raises(refusal):
            await service.claim(env.account_id, handoff.id, user_id)

    operator = await operators.ensure(env.database, env.account_id, user_id)
    held = [one.id for one in await open_handoffs.held_by(env.database, env.account_id, user_id)]
    assert held == ([handoff.id] if refusal is None else [])
    assert operator.holding == len(held)
    assert not held or availability.state(operator, NOON) == "busy"


async def test_a_transition_decided_on_an_old_claim_is_decided_again(env: HandoffEnvironment) -> None:
    """After a release and another claim of the same user, resolving the first claim is stale."""
    user_id, handoff = await env.operator(), await env.escalate()
    first = await env.service.claim(env.account_id, handoff.id, user_id)

    async def happens() -> None:
        await env.service.release(env.account_id, handoff.id, user_id)
        await env.service.claim(env.account_id, handoff.id, user_id)

    service = HandoffService(DatabaseWithInterruption(env.database, happens), env.clock)  # type: ignore[arg-type]
    with pytest.raises(StaleClaim):
        await service.resolve(
            env.account_id, handoff.id, user_id, epoch=first.handoff.epoch, resolution="late"
        )

    now = await handoffs.get(env.database, env.account_id, handoff.id)
    assert (now.state, now.epoch) == ("claimed", 2)


@pytest.mark.parametrize("leaving", ["offline", "away"])
async def test_leaving_while_claiming_agrees_with_what_is_held(
    env: HandoffEnvironment, leaving: Status
) -> None:
    """In any order, an operator who is offline holds nothing, and who is away keeps only an earlier claim."""
    user_id, chance = await env.operator(), random.Random(3)
    for _ in range(40):
        handoff = await env.escalate()
        await env.presence.set(env.account_id, user_id, PresenceChange(status="idle"))

        async def claim(handoff_id: UUID = handoff.id) -> None:
            await asyncio.sleep(chance.uniform(0, 0.004))
            await env.service.claim(env.account_id, handoff_id, user_id)

        async def leave() -> None:
            await asyncio.sleep(chance.uniform(0, 0.008))
            await env.presence.set(env.account_id, user_id, PresenceChange(status=leaving))

        answers = await asyncio.gather(claim(), leave(), return_exceptions=True)

        refused = [one for one in answers if isinstance(one, BaseException)]
        assert all(isinstance(one, IllegalMove) for one in refused), refused
        operator = await operators.ensure(env.database, env.account_id, user_id)
        held = await open_handoffs.held_by(env.database, env.account_id, user_id)
        assert operator.holding == len(held)
        assert not held or availability.state(operator, NOON) in ("busy", "away")
        assert (await handoffs.get(env.database, env.account_id, handoff.id)).state == (
            "claimed" if held else "queued"
        )
        for one in held:
            await env.service.release(env.account_id, one.id, user_id)


async def test_of_200_claims_at_capacity_3_exactly_3_win(env: HandoffEnvironment) -> None:
    """One operator claims 200 handoffs at once and gets three; the others stay queued and unclaimed."""
    user_id = await env.operator(capacity=3)
    made = [await env.escalate() for _ in range(200)]

    async def claim(one: HandoffRecord) -> None:
        while True:
            # On a busy machine one waits too long for the operator's row, or for a connection.
            with contextlib.suppress(DatabaseBusy, DatabaseUnavailable):
                await env.service.claim(env.account_id, one.id, user_id)
                return

    answers = await asyncio.gather(*map(claim, made), return_exceptions=True)

    refused = [answer for answer in answers if answer is not None]
    assert [type(answer) for answer in refused] == [CapacityReached] * 197
    assert (await operators.ensure(env.database, env.account_id, user_id)).holding == 3
    assert len(await open_handoffs.held_by(env.database, env.account_id, user_id)) == 3
    assert (await env.event_types()).count("handoff.claimed") == 3
