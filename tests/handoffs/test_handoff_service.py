"""Creation, claims and transitions of handoffs."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from db import (
    accounts,
    calls,
    events,
    handoff_events,
    handoff_transitions,
    handoffs,
    notices,
    operators,
    utterances,
)
from db.calls import CallEnd
from db.errors import ConstraintViolated, IdempotencyKeyReused
from db.handoff_transitions import Transition
from db.handoffs import HandoffDraft, QueueFilter
from db.ids import new_id
from db.pool import Database
from tests.db.seed import NOON, SeededAccount, make_event, make_utterance
from tests.handoffs.fixtures import HandoffEnvironment, ManualClock
from voicebot.availability import IllegalMove
from voicebot.handoffs.create import Reschedule
from voicebot.handoffs.presence import PresenceChange
from voicebot.handoffs.transitions import CLAIM_LEASE, AlreadyClaimed, IllegalTransition, StaleClaim


async def claimed(env: HandoffEnvironment, **more: object) -> tuple[UUID, handoffs.HandoffRecord]:
    user_id, handoff = await env.operator(), await env.escalate(**more)  # type: ignore[arg-type]
    return user_id, (await env.service.claim(env.account_id, handoff.id, user_id)).handoff


async def test_an_escalation_stores_a_snapshot(env: HandoffEnvironment, world: SeededAccount) -> None:
    """The snapshot has lead, template, transcript and functions; later utterances do not change it."""
    await utterances.record(env.database, make_utterance(world))
    called = make_event(world)
    await events.record(
        env.database,
        type(called)(
            **{name: getattr(called, name) for name in called.__slots__}
            | {"type": "function.called", "data": {"name": "find_order", "arguments": {"n": 7}}}
        ),
    )
    handoff = await env.escalate(world.call.id, notes="angry")
    await utterances.record(env.database, make_utterance(world, seq=2))

    snapshot = await handoffs.snapshot(env.database, world.id, handoff.id)

    assert [said["text"] for said in snapshot["transcript"]] == ["I have a question"]
    assert snapshot["functions"][0]["arguments"] == {"n": 7}
    assert snapshot["template"]["name"] == "front desk"
    assert snapshot["lead"]["id"] == str(world.call.lead_id)
    assert (handoff.template_id, handoff.lead_id, handoff.ordinal) == (world.front.id, world.call.lead_id, 1)
    assert (handoff.time_zone, handoff.notes, handoff.state) == (world.number.time_zone, "angry", "queued")


async def test_a_call_has_one_open_escalation(env: HandoffEnvironment, world: SeededAccount) -> None:
    """Escalating again returns the open one; after its end the next has ordinal 2."""
    made = await asyncio.gather(*(env.escalate(world.call.id) for _ in range(5)))
    assert len({handoff.id for handoff in made}) == 1
    user_id = await env.operator()
    await env.service.claim(world.id, made[0].id, user_id)
    await env.service.resolve(world.id, made[0].id, user_id, resolution="helped")

    second = await env.escalate(world.call.id)

    assert (second.id != made[0].id, second.ordinal) == (True, 2)


async def test_the_queue_is_ordered_by_time_and_priority(env: HandoffEnvironment, clock: ManualClock) -> None:
    """An urgent one precedes others of its time; a normal one that waited precedes a new high one."""
    low, normal = await env.escalate(priority="low"), await env.escalate()
    urgent = await env.escalate(priority="urgent")
    clock.advance(minutes=11)
    high = await env.escalate(priority="high")

    queue = await handoffs.queue(env.database, env.account_id, QueueFilter(), limit=10)

    assert [one.id for one in queue.items] == [urgent.id, normal.id, high.id, low.id]
    assert queue.as_of_seq == 4


async def test_the_queue_is_paged_and_filtered(env: HandoffEnvironment) -> None:
    """Every page continues the previous one; language, team and intent filter it."""
    made = [await env.escalate(language="de", team="a") for _ in range(5)]
    await env.escalate(language="en")
    seen, cursor = [], None
    while True:
        where = QueueFilter(language="de", team="a", intent="escalate")
        queue = await handoffs.queue(env.database, env.account_id, where, limit=2, cursor=cursor)
        seen += [one.id for one in queue.items]
        cursor = queue.next_cursor
        if cursor is None:
            break

    assert seen == [one.id for one in made]


async def test_an_empty_queue_has_an_event_number(env: HandoffEnvironment, world: SeededAccount) -> None:
    """Without a handoff the list is empty and has the number of the latest event."""
    await env.operator()

    queue = await handoffs.queue(env.database, world.id, QueueFilter(), limit=5)

    assert (list(queue.items), queue.as_of_seq) == ([], 1)


async def test_a_claim_has_one_winner_who_may_repeat_it(env: HandoffEnvironment) -> None:
    """Of 30 operators one wins; the others get its id; the winner gets the same claim again."""
    handoff = await env.escalate()
    people = [await env.operator() for _ in range(30)]

    answers = await asyncio.gather(
        *(env.service.claim(env.account_id, handoff.id, one) for one in people), return_exceptions=True
    )

    won = [one for one, answer in zip(people, answers, strict=True) if not isinstance(answer, Exception)]
    assert len(won) == 1
    assert {answer.claimed_by for answer in answers if isinstance(answer, AlreadyClaimed)} == set(won)
    again = await env.service.claim(env.account_id, handoff.id, won[0])
    assert again.handoff.epoch == 1
    held = [(await operators.ensure(env.database, env.account_id, one)).holding for one in people]
    assert sum(held) == 1


async def test_a_stale_claim_writes_nothing(env: HandoffEnvironment, clock: ManualClock) -> None:
    """After the lease ran out and the same user claimed again, writes of the old epoch are refused."""
    user_id, first = await claimed(env)
    clock.advance(seconds=CLAIM_LEASE.total_seconds() + 1)
    await env.presence.heartbeat(env.account_id, user_id)
    clock.advance(seconds=CLAIM_LEASE.total_seconds() + 1)
    await env.scheduler.run_once()
    second = (await env.service.claim(env.account_id, first.id, user_id)).handoff

    with pytest.raises(StaleClaim):
        await env.service.resolve(env.account_id, first.id, user_id, epoch=first.epoch, resolution="x")

    assert second.epoch == 2
    assert (await handoffs.get(env.database, env.account_id, first.id)).state == "claimed"


async def test_a_released_claim_keeps_its_place(env: HandoffEnvironment) -> None:
    """It returns to its place in the queue, and the operator's counter decreases."""
    user_id, handoff = await claimed(env)
    await env.escalate()

    released = await env.service.release(env.account_id, handoff.id, user_id, epoch=1, reason="wrong team")

    queue = await handoffs.queue(env.database, env.account_id, QueueFilter(), limit=5)
    assert queue.items[0].id == handoff.id
    assert (released.state, released.cause, released.queue_at) == ("queued", "wrong team", handoff.queue_at)
    assert (await operators.ensure(env.database, env.account_id, user_id)).holding == 0


async def test_heartbeats_renew_a_lease(env: HandoffEnvironment, clock: ManualClock) -> None:
    """An operator who sends heartbeats keeps their claims."""
    user_id, handoff = await claimed(env)
    for _ in range(10):
        clock.advance(seconds=100)
        await env.presence.heartbeat(env.account_id, user_id)
        await env.scheduler.run_once()

    assert (await handoffs.get(env.database, env.account_id, handoff.id)).claimed_by == user_id


@pytest.mark.parametrize("sign", ["presence", "another_claim", "the_same_claim"])
async def test_every_sign_of_life_renews_held_claims(
    env: HandoffEnvironment, clock: ManualClock, sign: str
) -> None:
    """Setting the presence and claiming renew the leases of all claims, as heartbeats do."""
    user_id, handoff = await claimed(env)
    second = (await env.service.claim(env.account_id, (await env.escalate()).id, user_id)).handoff
    for _ in range(4):
        clock.advance(seconds=100)
        match sign:
            case "presence":
                await env.presence.set(env.account_id, user_id, PresenceChange(teams=("billing",)))
            case "another_claim":
                await env.service.release(env.account_id, second.id, user_id)
                await env.service.claim(env.account_id, second.id, user_id)
            case _:
                await env.service.claim(env.account_id, second.id, user_id)
        held = await handoffs.get(env.database, env.account_id, handoff.id)
        assert held.lease_until == clock.now() + CLAIM_LEASE
        await env.scheduler.run_once()

    assert (await handoffs.get(env.database, env.account_id, handoff.id)).claimed_by == user_id


async def test_an_admin_who_relieves_an_operator_renews_nothing(
    env: HandoffEnvironment, clock: ManualClock
) -> None:
    """The lease of a claim is renewed by its holder only."""
    user_id, handoff = await claimed(env)
    clock.advance(seconds=100)
    await env.presence.set(env.account_id, user_id, PresenceChange(status="relieved"))

    assert (await handoffs.get(env.database, env.account_id, handoff.id)).lease_until == handoff.lease_until


async def test_going_offline_returns_a_claim_once(env: HandoffEnvironment, clock: ManualClock) -> None:
    """After 121 s of silence it is queued again, with one event; the operator has lost it."""
    user_id, handoff = await claimed(env)
    clock.advance(seconds=121)
    await asyncio.gather(*(env.scheduler.run_once() for _ in range(3)))
    await env.presence.heartbeat(env.account_id, user_id)

    now = await handoffs.get(env.database, env.account_id, handoff.id)
    assert (now.claimed_by, now.cause) == (None, "operator_offline") or now.state == "offered"
    assert (await env.event_types()).count("handoff.lapsed") == 1
    with pytest.raises(StaleClaim):
        await env.service.resolve(env.account_id, handoff.id, user_id, resolution="too late")
    assert (await operators.ensure(env.database, env.account_id, user_id)).holding == 0


async def test_signing_off_returns_a_claim_at_once(env: HandoffEnvironment) -> None:
    """Going offline returns it without waiting for silence."""
    user_id, handoff = await claimed(env)

    await env.presence.set(env.account_id, user_id, PresenceChange(status="offline"))

    assert (await handoffs.get(env.database, env.account_id, handoff.id)).state == "queued"


async def test_a_bridged_caller_is_not_returned(env: HandoffEnvironment, clock: ManualClock) -> None:
    """A connected caller stays with the operator, even when the heartbeats stop."""
    user_id, handoff = await claimed(env)
    for state in ("transferring", "bridged"):
        move = Transition(to=state, at=clock.now(), claimed_by=user_id)
        await env.service.transition(env.account_id, handoff.id, lambda _, m=move: m)  # type: ignore[misc]
    assert (await env.presence.get(env.account_id, user_id)).state == "on_call"
    clock.advance(seconds=121)
    await env.scheduler.run_once()

    assert (await handoffs.get(env.database, env.account_id, handoff.id)).state == "bridged"


async def test_a_declined_offer_goes_to_the_next_operator(env: HandoffEnvironment) -> None:
    """An idle operator gets the offer; after a decline another one does."""
    first, second = await env.operator(), await env.operator()
    handoff = await env.escalate()
    await env.scheduler.run_once()
    asked = (await handoffs.get(env.database, env.account_id, handoff.id)).offered_to
    assert asked in {first, second}

    await env.service.decline(env.account_id, handoff.id, asked, reason="lunch")
    await env.scheduler.run_once()

    now = await handoffs.get(env.database, env.account_id, handoff.id)
    assert (now.state, now.offered_to) == ("offered", ({first, second} - {asked}).pop())
    assert "handoff.declined" in await env.event_types()


async def test_an_unanswered_offer_goes_to_another_operator(
    env: HandoffEnvironment, clock: ManualClock
) -> None:
    """After 30 s without a claim another operator gets the offer."""
    await env.operator()
    await env.operator()
    handoff = await env.escalate()
    await env.scheduler.run_once()
    asked = (await handoffs.get(env.database, env.account_id, handoff.id)).offered_to
    clock.advance(seconds=31)
    await env.scheduler.run_once()

    now = await handoffs.get(env.database, env.account_id, handoff.id)
    assert now.state == "offered"
    assert now.offered_to != asked


async def test_offers_go_only_to_operators_of_the_language(env: HandoffEnvironment) -> None:
    """An operator with `en` is offered en-GB and not Spanish."""
    user_id = await env.operator()
    await env.presence.set(env.account_id, user_id, PresenceChange(status="idle", languages=("en",)))
    spanish, english = await env.escalate(language="es"), await env.escalate(language="en-GB")
    await env.scheduler.run_once()

    states = [(await handoffs.get(env.database, env.account_id, one.id)).state for one in (spanish, english)]
    assert states == ["queued", "offered"]


async def test_handoffs_that_nobody_matches_block_no_others(
    env: HandoffEnvironment, database: Database
) -> None:
    """201 handoffs in a language that no operator speaks do not block others, of any account."""
    elsewhere = HandoffEnvironment(database, (await accounts.create(database, "Other")).id, env.clock)
    await elsewhere.operator()
    user_id = await env.operator()
    await env.presence.set(env.account_id, user_id, PresenceChange(languages=("en",)))
    for _ in range(201):
        await env.escalate(language="es")
    ours, theirs = await env.escalate(language="en"), await elsewhere.escalate()

    await env.scheduler.run_once()

    for handoff in (ours, theirs):
        assert (await handoffs.get(database, handoff.account_id, handoff.id)).state == "offered"


async def test_offers_rotate(env: HandoffEnvironment) -> None:
    """Of two idle operators each is offered one of two handoffs in one run."""
    people = {await env.operator(), await env.operator()}
    made = [await env.escalate() for _ in range(2)]
    await env.scheduler.run_once()

    asked = {(await handoffs.get(env.database, one.account_id, one.id)).offered_to for one in made}
    assert asked == people


async def test_a_hang_up_abandons_the_escalation(
    env: HandoffEnvironment, world: SeededAccount, clock: ManualClock
) -> None:
    """The waiting escalation of a call that ended is abandoned."""
    handoff = await env.escalate(world.call.id)
    clock.advance(seconds=5)
    end = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=clock.now())
    await calls.finish(env.database, world.id, world.call.id, end)
    await env.scheduler.run_once()

    now = await handoffs.get(env.database, world.id, handoff.id)
    assert (now.state, now.cause, now.ended_at) == ("abandoned", "caller_hung_up", clock.now())


async def test_a_claim_stays_its_holders_when_the_call_ends(
    env: HandoffEnvironment, world: SeededAccount, clock: ManualClock
) -> None:
    """Claim, the call ends, ring back, resolve: it is resolved, with the hang-up as its cause."""
    user_id, handoff = await claimed(env, call_id=world.call.id)
    clock.advance(seconds=5)
    end = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=clock.now())
    await calls.finish(env.database, world.id, world.call.id, end)
    for _ in range(3):
        await env.scheduler.run_once()
        clock.advance(seconds=10)

    now = await handoffs.get(env.database, world.id, handoff.id)
    assert (now.state, now.claimed_by, now.cause) == ("claimed", user_id, "caller_hung_up")
    resolved = await env.service.resolve(world.id, handoff.id, user_id, epoch=1, resolution="rang back")
    assert (resolved.state, resolved.cause) == ("resolved", "caller_hung_up")
    assert "handoff.abandoned" not in await env.event_types()


async def test_an_operator_away_or_exhausted_cannot_claim(env: HandoffEnvironment) -> None:
    """The refusal names the state."""
    user_id, handoff = await env.operator(), await env.escalate()
    await env.presence.set(env.account_id, user_id, PresenceChange(status="away"))
    with pytest.raises(IllegalMove, match="away"):
        await env.service.claim(env.account_id, handoff.id, user_id)
    await env.presence.set(env.account_id, user_id, PresenceChange(status="idle"))
    await env.presence.set(env.account_id, user_id, PresenceChange(status="exhausted", billing=True))
    with pytest.raises(IllegalMove, match="exhausted"):
        await env.service.claim(env.account_id, handoff.id, user_id)


async def test_resolving_starts_wrapping_up_and_may_be_repeated(
    env: HandoffEnvironment, clock: ManualClock
) -> None:
    """The state is wrapping_up for a minute; a repeated resolve changes nothing."""
    user_id, handoff = await claimed(env)
    resolved = await env.service.resolve(env.account_id, handoff.id, user_id, epoch=1, resolution="refund")
    again = await env.service.resolve(env.account_id, handoff.id, user_id, epoch=1, resolution="other")

    assert (resolved.resolution, again.resolution) == ("refund", "refund")
    assert (await env.presence.get(env.account_id, user_id)).state == "wrapping_up"
    clock.advance(seconds=60)
    assert (await env.presence.get(env.account_id, user_id)).state == "idle"


async def test_a_parked_call_becomes_due(
    env: HandoffEnvironment, clock: ManualClock, world: SeededAccount
) -> None:
    """It cannot be claimed before it is due, and can be claimed then, which cancels the notice of it."""
    await env.user(role="admin", email="boss@example.com")
    handoff = await env.park(NOON + timedelta(hours=1), world.call.id, consent=True)
    user_id = await env.operator()
    with pytest.raises(IllegalTransition, match="scheduled"):
        await env.service.claim(env.account_id, handoff.id, user_id)
    clock.advance(hours=1)
    await env.presence.heartbeat(env.account_id, user_id)
    await env.scheduler.run_once()

    claim = await env.service.claim(env.account_id, handoff.id, user_id)

    assert claim.handoff.state == "claimed"
    assert claim.handoff.consent
    found = await notices.of_handoff(env.database, env.account_id, handoff.id)
    assert [notice.state for notice in found] == ["cancelled"]


async def test_a_park_without_consent_is_never_due(env: HandoffEnvironment, clock: ManualClock) -> None:
    """It stays scheduled after its time, cannot be claimed, and expires with the cause no_consent."""
    handoff = await env.park(NOON, consent=False)
    clock.advance(hours=1)
    user_id = await env.operator()
    await env.scheduler.run_once()
    with pytest.raises(IllegalTransition, match="scheduled") as refused:
        await env.service.claim(env.account_id, handoff.id, user_id)
    assert "due" not in refused.value.allowed
    due = Transition(to="due", at=clock.now())
    with pytest.raises(IllegalTransition):
        await env.service.transition(env.account_id, handoff.id, lambda _: due)
    with pytest.raises(ConstraintViolated, match="handoffs_due_requires_consent"):
        await handoff_transitions.apply(env.database, handoff, due, ended=False)
    clock.advance(hours=72)
    await env.scheduler.run_once()

    now = await handoffs.get(env.database, env.account_id, handoff.id)
    assert (now.state, now.cause) == ("expired", "no_consent")


async def test_a_park_with_later_consent_becomes_due(env: HandoffEnvironment, clock: ManualClock) -> None:
    """Rescheduled with consent it becomes due and is offered; without it the consent is unchanged."""
    handoff, user_id = await env.park(NOON, consent=False), await env.operator()
    for consent, state in ((None, "scheduled"), (True, "offered")):
        later = Reschedule(due_at=clock.now() + timedelta(minutes=1), consent=consent)
        await env.service.reschedule(env.account_id, handoff.id, user_id, later)
        clock.advance(minutes=1)
        await env.scheduler.run_once()
        assert (await handoffs.get(env.database, env.account_id, handoff.id)).state == state


@pytest.mark.parametrize(("said", "agreed"), [(None, True), (True, True), (False, False)])
async def test_a_rescheduled_escalation_has_consent_by_default(
    env: HandoffEnvironment, said: bool | None, agreed: bool
) -> None:
    """A rescheduled escalation becomes a park with consent, unless the request says otherwise."""
    handoff, user_id = await env.escalate(), await env.operator()
    later = Reschedule(due_at=NOON + timedelta(hours=1), consent=said)

    parked = await env.service.reschedule(env.account_id, handoff.id, user_id, later)

    assert (parked.intent, parked.state, parked.consent) == ("park", "scheduled", agreed)


async def test_an_escalation_expires(env: HandoffEnvironment, clock: ManualClock) -> None:
    """An escalation without a claim expires after four hours."""
    handoff = await env.escalate()
    clock.advance(hours=4)
    await env.scheduler.run_once()

    assert (await handoffs.get(env.database, env.account_id, handoff.id)).state == "expired"


async def test_a_repeated_draft_creates_one_handoff(env: HandoffEnvironment, database: Database) -> None:
    """The same id gives the same handoff, and one event."""
    draft = HandoffDraft(intent="escalate", origin="model", reason="again", created_at=NOON)
    made = [await env.service.create(env.account_id, draft) for _ in range(3)]

    assert [one.created for one in made] == [True, False, False]
    assert len(await handoff_events.after(database, env.account_id, 0, limit=9)) == 1


async def test_an_idempotency_key_identifies_the_lead_of_a_request_without_a_call(
    env: HandoffEnvironment, world: SeededAccount
) -> None:
    """The same key for another lead is refused; a repetition for the same lead or call is not."""
    draft = HandoffDraft(intent="escalate", origin="person", reason="x", created_at=NOON)
    for_lead = replace(draft, lead_id=world.call.lead_id)
    first = await env.service.create(world.id, for_lead, idempotency_key="lead")
    of_call = await env.service.create(
        world.id, replace(draft, id=new_id(), call_id=world.call.id), idempotency_key="call"
    )

    again = await env.service.create(world.id, replace(for_lead, id=new_id()), idempotency_key="lead")
    same_call = await env.service.create(
        world.id, replace(draft, id=new_id(), call_id=world.call.id), idempotency_key="call"
    )
    with pytest.raises(IdempotencyKeyReused):
        await env.service.create(world.id, replace(draft, id=new_id()), idempotency_key="lead")

    assert (again.handoff.id, again.created) == (first.handoff.id, False)
    assert same_call.handoff.id == of_call.handoff.id


async def test_a_briefing_without_an_assessment(env: HandoffEnvironment, world: SeededAccount) -> None:
    """It has four parts from the snapshot; the assessment is null."""
    await utterances.record(env.database, make_utterance(world))
    handoff = await env.escalate(world.call.id)
    claim = await env.service.claim(world.id, handoff.id, await env.operator())

    assert claim.briefing.assessment is None
    assert claim.briefing.problem["summary"] == "wants a person"
    assert claim.briefing.tried["agent"] == "front desk"
    assert any("I have a question" in step for step in claim.briefing.start_here)
