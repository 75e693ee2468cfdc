"""Making, claiming and moving on handoffs."""

import asyncio
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
    operators,
    outbox,
    utterances,
)
from db.calls import CallEnd
from db.errors import ConstraintViolated
from db.handoff_transitions import Transition
from db.handoffs import QueueFilter
from db.pool import Database
from tests.db.seed import NOON, SeededAccount, make_event, make_utterance
from tests.handoffs.fixtures import HandClock, Staff
from voicebot.availability import IllegalMove
from voicebot.handoffs.apply_transition import CLAIM_LEASE
from voicebot.handoffs.create_request import CreateHandoff
from voicebot.handoffs.errors import AlreadyClaimed, StaleClaim
from voicebot.handoffs.handoff_service import Reschedule
from voicebot.handoffs.presence import Setting
from voicebot.handoffs.transitions import IllegalTransition


async def claimed(staff: Staff, **more: object) -> tuple[UUID, handoffs.HandoffRecord]:
    user_id, handoff = await staff.operator(), await staff.escalate(**more)  # type: ignore[arg-type]
    return user_id, (await staff.desk.claim(staff.account_id, handoff.id, user_id)).handoff


async def test_an_escalation_freezes_what_is_known(staff: Staff, world: SeededAccount) -> None:
    """The snapshot has lead, template, transcript and functions as they were; later words change nothing."""
    await utterances.record(staff.database, make_utterance(world))
    called = make_event(world)
    await events.record(
        staff.database,
        type(called)(
            **{name: getattr(called, name) for name in called.__slots__}
            | {"type": "function.called", "data": {"name": "find_order", "arguments": {"n": 7}}}
        ),
    )
    handoff = await staff.escalate(world.call.id, notes="angry")
    await utterances.record(staff.database, make_utterance(world, seq=2))

    frozen = await handoffs.snapshot(staff.database, world.id, handoff.id)

    assert [said["text"] for said in frozen["transcript"]] == ["I have a question"]
    assert frozen["functions"][0]["arguments"] == {"n": 7}
    assert frozen["template"]["name"] == "front desk"
    assert frozen["lead"]["id"] == str(world.call.lead_id)
    assert (handoff.template_id, handoff.lead_id, handoff.ordinal) == (world.front.id, world.call.lead_id, 1)
    assert (handoff.time_zone, handoff.notes, handoff.state) == (world.number.time_zone, "angry", "queued")


async def test_a_call_has_one_open_escalation(staff: Staff, world: SeededAccount) -> None:
    """Whoever escalates it meanwhile gets the one that is open; after its end the next is the second."""
    made = await asyncio.gather(*(staff.escalate(world.call.id) for _ in range(5)))
    assert len({handoff.id for handoff in made}) == 1
    user_id = await staff.operator()
    await staff.desk.claim(world.id, made[0].id, user_id)
    await staff.desk.resolve(world.id, made[0].id, user_id, resolution="helped")

    second = await staff.escalate(world.call.id)

    assert (second.id != made[0].id, second.ordinal) == (True, 2)


async def test_the_queue_goes_by_priority_then_age_and_nothing_starves(
    staff: Staff, clock: HandClock
) -> None:
    """The urgent goes before those of its time; a normal one that waited goes before a high one of now."""
    low, normal = await staff.escalate(priority="low"), await staff.escalate()
    urgent = await staff.escalate(priority="urgent")
    clock.wait(minutes=11)
    high = await staff.escalate(priority="high")

    queue = await handoffs.queue(staff.database, staff.account_id, QueueFilter(), limit=10)

    assert [one.id for one in queue.page.items] == [urgent.id, normal.id, high.id, low.id]
    assert queue.as_of_seq == 4


async def test_the_queue_is_paged_and_narrowed(staff: Staff) -> None:
    """Every page follows the one before; language, team and intent narrow it."""
    made = [await staff.escalate(language="de", team="a") for _ in range(5)]
    await staff.escalate(language="en")
    seen, cursor = [], None
    while True:
        where = QueueFilter(language="de", team="a", intent="escalate")
        queue = await handoffs.queue(staff.database, staff.account_id, where, limit=2, cursor=cursor)
        seen += [one.id for one in queue.page.items]
        cursor = queue.page.next_cursor
        if cursor is None:
            break

    assert seen == [one.id for one in made]


async def test_an_empty_queue_knows_its_moment(staff: Staff, world: SeededAccount) -> None:
    """Without a handoff the list is empty, and says as of which event."""
    await staff.operator()

    queue = await handoffs.queue(staff.database, world.id, QueueFilter(), limit=5)

    assert (list(queue.page.items), queue.as_of_seq) == ([], 1)


async def test_a_claim_has_one_winner_who_may_ask_again(staff: Staff) -> None:
    """Of 30 operators one wins; the others learn who it is; the winner gets the same claim again."""
    handoff = await staff.escalate()
    people = [await staff.operator() for _ in range(30)]

    answers = await asyncio.gather(
        *(staff.desk.claim(staff.account_id, handoff.id, one) for one in people), return_exceptions=True
    )

    won = [one for one, answer in zip(people, answers, strict=True) if not isinstance(answer, Exception)]
    assert len(won) == 1
    assert {answer.claimed_by for answer in answers if isinstance(answer, AlreadyClaimed)} == set(won)
    again = await staff.desk.claim(staff.account_id, handoff.id, won[0])
    assert again.handoff.epoch == 1
    held = [(await operators.ensure(staff.database, staff.account_id, one)).holding for one in people]
    assert sum(held) == 1


async def test_a_stale_claim_writes_nothing(staff: Staff, clock: HandClock) -> None:
    """After its lease ran out and the same person claimed anew, writes of the old epoch are refused."""
    user_id, first = await claimed(staff)
    clock.wait(seconds=CLAIM_LEASE.total_seconds() + 1)
    await staff.presence.heartbeat(staff.account_id, user_id)
    clock.wait(seconds=CLAIM_LEASE.total_seconds() + 1)
    await staff.scheduler.look()
    second = (await staff.desk.claim(staff.account_id, first.id, user_id)).handoff

    with pytest.raises(StaleClaim):
        await staff.desk.resolve(staff.account_id, first.id, user_id, epoch=first.epoch, resolution="x")

    assert second.epoch == 2
    assert (await handoffs.get(staff.database, staff.account_id, first.id)).state == "claimed"


async def test_a_released_claim_keeps_its_place(staff: Staff) -> None:
    """It returns to where it was in the queue, and the operator has room again."""
    user_id, handoff = await claimed(staff)
    await staff.escalate()

    released = await staff.desk.release(staff.account_id, handoff.id, user_id, epoch=1, reason="wrong team")

    queue = await handoffs.queue(staff.database, staff.account_id, QueueFilter(), limit=5)
    assert queue.page.items[0].id == handoff.id
    assert (released.state, released.cause, released.queue_at) == ("queued", "wrong team", handoff.queue_at)
    assert (await operators.ensure(staff.database, staff.account_id, user_id)).holding == 0


async def test_heartbeats_renew_a_lease(staff: Staff, clock: HandClock) -> None:
    """Who is heard from keeps what they hold."""
    user_id, handoff = await claimed(staff)
    for _ in range(10):
        clock.wait(seconds=100)
        await staff.presence.heartbeat(staff.account_id, user_id)
        await staff.scheduler.look()

    assert (await handoffs.get(staff.database, staff.account_id, handoff.id)).holder_id == user_id


async def test_going_offline_returns_a_claim_once(staff: Staff, clock: HandClock) -> None:
    """Silent for 121 s: back in the queue, told once; coming back finds it gone."""
    user_id, handoff = await claimed(staff)
    clock.wait(seconds=121)
    await asyncio.gather(*(staff.scheduler.look() for _ in range(3)))
    await staff.presence.heartbeat(staff.account_id, user_id)

    now = await handoffs.get(staff.database, staff.account_id, handoff.id)
    assert (now.holder_id, now.cause) == (None, "operator_offline") or now.state == "offered"
    assert (await staff.types()).count("handoff.lapsed") == 1
    with pytest.raises(StaleClaim):
        await staff.desk.resolve(staff.account_id, handoff.id, user_id, resolution="too late")
    assert (await operators.ensure(staff.database, staff.account_id, user_id)).holding == 0


async def test_signing_off_returns_a_claim_at_once(staff: Staff) -> None:
    """Nobody needs to wait for the silence of who says that they go."""
    user_id, handoff = await claimed(staff)

    await staff.presence.set(staff.account_id, user_id, Setting(status="offline"))

    assert (await handoffs.get(staff.database, staff.account_id, handoff.id)).state == "queued"


async def test_a_bridged_caller_is_not_returned(staff: Staff, clock: HandClock) -> None:
    """Who speaks with a caller keeps them, though their screen has gone dark."""
    user_id, handoff = await claimed(staff)
    for state in ("transferring", "bridged"):
        move = Transition(to=state, at=clock.now(), holder_id=user_id)  # type: ignore[arg-type]
        await staff.desk.move(staff.account_id, handoff.id, lambda _, m=move: m, f"handoff.{state}")  # type: ignore[misc]
    assert (await staff.presence.look(staff.account_id, user_id)).state == "on_call"
    clock.wait(seconds=121)
    await staff.scheduler.look()

    assert (await handoffs.get(staff.database, staff.account_id, handoff.id)).state == "bridged"


async def test_a_queued_handoff_is_offered_and_a_decline_asks_the_next(staff: Staff) -> None:
    """Somebody idle is asked; who declines is not asked again, the next one is."""
    first, second = await staff.operator(), await staff.operator()
    handoff = await staff.escalate()
    await staff.scheduler.look()
    asked = (await handoffs.get(staff.database, staff.account_id, handoff.id)).offered_to
    assert asked in {first, second}

    await staff.desk.decline(staff.account_id, handoff.id, asked, reason="lunch")
    await staff.scheduler.look()

    now = await handoffs.get(staff.database, staff.account_id, handoff.id)
    assert (now.state, now.offered_to) == ("offered", ({first, second} - {asked}).pop())
    assert "handoff.declined" in await staff.types()


async def test_an_unanswered_offer_goes_to_somebody_else(staff: Staff, clock: HandClock) -> None:
    """After 30 s without a claim another one is asked."""
    await staff.operator()
    await staff.operator()
    handoff = await staff.escalate()
    await staff.scheduler.look()
    asked = (await handoffs.get(staff.database, staff.account_id, handoff.id)).offered_to
    clock.wait(seconds=31)
    await staff.scheduler.look()

    now = await handoffs.get(staff.database, staff.account_id, handoff.id)
    assert now.state == "offered"
    assert now.offered_to != asked


async def test_only_who_speaks_the_language_is_asked(staff: Staff) -> None:
    """An operator for English is offered en-GB, and never Spanish."""
    user_id = await staff.operator()
    await staff.presence.set(staff.account_id, user_id, Setting(status="idle", languages=("en",)))
    spanish, english = await staff.escalate(language="es"), await staff.escalate(language="en-GB")
    await staff.scheduler.look()

    states = [
        (await handoffs.get(staff.database, staff.account_id, one.id)).state for one in (spanish, english)
    ]
    assert states == ["queued", "offered"]


async def test_nobody_waits_behind_those_whom_no_one_fits(staff: Staff, database: Database) -> None:
    """However many wait for a language that nobody speaks, others are offered, also of another account."""
    elsewhere = Staff(database, (await accounts.create(database, "Other")).id, staff.clock)
    await elsewhere.operator()
    user_id = await staff.operator()
    await staff.presence.set(staff.account_id, user_id, Setting(languages=("en",)))
    for _ in range(201):
        await staff.escalate(language="es")
    ours, theirs = await staff.escalate(language="en"), await elsewhere.escalate()

    await staff.scheduler.look()

    for handoff in (ours, theirs):
        assert (await handoffs.get(database, handoff.account_id, handoff.id)).state == "offered"


async def test_offers_go_round(staff: Staff) -> None:
    """Of two who are free each is asked about one of two handoffs, in one look."""
    people = {await staff.operator(), await staff.operator()}
    made = [await staff.escalate() for _ in range(2)]
    await staff.scheduler.look()

    asked = {(await handoffs.get(staff.database, one.account_id, one.id)).offered_to for one in made}
    assert asked == people


async def test_a_caller_who_hangs_up_abandons_the_queue(
    staff: Staff, world: SeededAccount, clock: HandClock
) -> None:
    """The escalation of a call that ended is over, and whoever held it has room again."""
    user_id, handoff = await claimed(staff, call_id=world.call.id)
    clock.wait(seconds=5)
    end = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=clock.now())
    await calls.finish(staff.database, world.id, world.call.id, end)
    await staff.scheduler.look()

    now = await handoffs.get(staff.database, world.id, handoff.id)
    assert (now.state, now.cause, now.ended_at) == ("abandoned", "caller_hung_up", clock.now())
    assert (await operators.ensure(staff.database, world.id, user_id)).holding == 0


async def test_nobody_away_or_exhausted_claims(staff: Staff) -> None:
    """The refusal names the state."""
    user_id, handoff = await staff.operator(), await staff.escalate()
    await staff.presence.set(staff.account_id, user_id, Setting(status="away"))
    with pytest.raises(IllegalMove, match="away"):
        await staff.desk.claim(staff.account_id, handoff.id, user_id)
    await staff.presence.set(staff.account_id, user_id, Setting(status="idle"))
    await staff.presence.set(staff.account_id, user_id, Setting(status="exhausted", billing=True))
    with pytest.raises(IllegalMove, match="exhausted"):
        await staff.desk.claim(staff.account_id, handoff.id, user_id)


async def test_who_resolves_wraps_up_and_may_repeat_it(staff: Staff, clock: HandClock) -> None:
    """A moment for notes follows, ends by itself, and a repeated resolve changes nothing."""
    user_id, handoff = await claimed(staff)
    resolved = await staff.desk.resolve(staff.account_id, handoff.id, user_id, epoch=1, resolution="refund")
    again = await staff.desk.resolve(staff.account_id, handoff.id, user_id, epoch=1, resolution="other")

    assert (resolved.resolution, again.resolution) == ("refund", "refund")
    assert (await staff.presence.look(staff.account_id, user_id)).state == "wrapping_up"
    clock.wait(seconds=60)
    assert (await staff.presence.look(staff.account_id, user_id)).state == "idle"


async def test_a_parked_call_becomes_due(staff: Staff, clock: HandClock, world: SeededAccount) -> None:
    """It cannot be claimed before its time, and waits for a person from then on; nobody is written to."""
    await staff.hire(role="admin", email="boss@example.com")
    handoff = await staff.park(NOON + timedelta(hours=1), world.call.id, consent=True)
    user_id = await staff.operator()
    with pytest.raises(IllegalTransition, match="scheduled"):
        await staff.desk.claim(staff.account_id, handoff.id, user_id)
    clock.wait(hours=1)
    await staff.presence.heartbeat(staff.account_id, user_id)
    await staff.scheduler.look()

    claim = await staff.desk.claim(staff.account_id, handoff.id, user_id)

    assert claim.handoff.state == "claimed"
    assert claim.handoff.consent
    assert await outbox.of_handoff(staff.database, staff.account_id, handoff.id) == []


async def test_who_has_not_agreed_is_never_called(staff: Staff, clock: HandClock) -> None:
    """Parked without consent it stays scheduled past its time, cannot be claimed, and expires saying why."""
    handoff = await staff.park(NOON, consent=False)
    clock.wait(hours=1)
    user_id = await staff.operator()
    await staff.scheduler.look()
    with pytest.raises(IllegalTransition, match="scheduled") as refused:
        await staff.desk.claim(staff.account_id, handoff.id, user_id)
    assert "due" not in refused.value.allowed
    due = Transition(to="due", at=clock.now())
    with pytest.raises(IllegalTransition):
        await staff.desk.move(staff.account_id, handoff.id, lambda _: due, "handoff.due")
    with pytest.raises(ConstraintViolated, match="handoffs_called_with_consent"):
        await handoff_transitions.move(staff.database, handoff, due)
    clock.wait(hours=72)
    await staff.scheduler.look()

    now = await handoffs.get(staff.database, staff.account_id, handoff.id)
    assert (now.state, now.cause) == ("expired", "no_consent")


async def test_who_agrees_later_is_called(staff: Staff, clock: HandClock) -> None:
    """Rescheduled with consent, a parked call becomes due; without a word it stays as it was."""
    handoff, user_id = await staff.park(NOON, consent=False), await staff.operator()
    for consent, state in ((None, "scheduled"), (True, "due")):
        later = Reschedule(due_at=clock.now() + timedelta(minutes=1), consent=consent)
        await staff.desk.reschedule(staff.account_id, handoff.id, user_id, later)
        clock.wait(minutes=1)
        await staff.scheduler.look()
        assert (await handoffs.get(staff.database, staff.account_id, handoff.id)).state == state


@pytest.mark.parametrize(("said", "agreed"), [(None, True), (True, True), (False, False)])
async def test_whoever_asked_for_a_person_may_be_called_back(
    staff: Staff, said: bool | None, agreed: bool
) -> None:
    """An escalation put off becomes a parked call with consent, unless whoever puts it off says otherwise."""
    handoff, user_id = await staff.escalate(), await staff.operator()
    later = Reschedule(due_at=NOON + timedelta(hours=1), consent=said)

    parked = await staff.desk.reschedule(staff.account_id, handoff.id, user_id, later)

    assert (parked.intent, parked.state, parked.consent) == ("park", "scheduled", agreed)


async def test_nobody_answers_for_ever(staff: Staff, clock: HandClock) -> None:
    """An escalation that nobody claimed in four hours has expired."""
    handoff = await staff.escalate()
    clock.wait(hours=4)
    await staff.scheduler.look()

    assert (await handoffs.get(staff.database, staff.account_id, handoff.id)).state == "expired"


async def test_a_repeated_wish_is_made_once(staff: Staff, database: Database) -> None:
    """The same id gives the same handoff, and one event."""
    wish = CreateHandoff(intent="escalate", origin="model", reason="again")
    made = [await staff.desk.create(staff.account_id, wish) for _ in range(3)]

    assert [one.created for one in made] == [True, False, False]
    assert len(await handoff_events.after(database, staff.account_id, 0, limit=9)) == 1


async def test_the_briefing_is_plain_without_the_model(staff: Staff, world: SeededAccount) -> None:
    """Four parts, from what was frozen; the assessment's is empty and nothing is made up."""
    await utterances.record(staff.database, make_utterance(world))
    handoff = await staff.escalate(world.call.id)
    claim = await staff.desk.claim(world.id, handoff.id, await staff.operator())

    assert claim.briefing.assessment is None
    assert claim.briefing.problem["summary"] == "wants a person"
    assert claim.briefing.tried["agent"] == "front desk"
    assert any("I have a question" in step for step in claim.briefing.start_here)
