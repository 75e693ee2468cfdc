"""A live call that hands itself to people, written in its place among the call's own words."""

from __future__ import annotations

from datetime import timedelta

from db import handoffs, utterances
from db.handoffs import QueueFilter
from db.pool import Database
from handlers.context import HandoffRequest
from tests.db.seed import SeededAccount, make_utterance
from tests.handoffs.fixtures import ManualClock
from voicebot.call.transcript.writer import CallWriter
from voicebot.handoffs.create import call_hand_off


async def test_the_snapshot_has_what_was_said_before_and_nothing_after(
    database: Database, world: SeededAccount, clock: ManualClock
) -> None:
    """The entry is written between the caller's words, whenever the database gets round to it."""
    stirred = []
    hand_off = call_hand_off(clock, assess=False, wake=lambda: stirred.append(1))
    writer = CallWriter(database, world.call.id)
    writer.write(lambda db: utterances.record(db, make_utterance(world, seq=1)))
    writer.write(hand_off(world.call, HandoffRequest(intent="escalate", reason="a refund")))
    writer.write(lambda db: utterances.record(db, make_utterance(world, seq=2)))
    await writer.close()

    queue = await handoffs.queue(database, world.id, QueueFilter(), limit=5)
    [handoff] = queue.items
    frozen = await handoffs.snapshot(database, world.id, handoff.id)
    assert len(frozen["transcript"]) == 1
    assert (handoff.call_id, handoff.origin, handoff.reason) == (world.call.id, "model", "a refund")
    assert stirred == [1]


async def test_an_entry_may_be_written_twice(
    database: Database, world: SeededAccount, clock: ManualClock
) -> None:
    """A connection that was lost after the commit makes the ledger repeat it: it is one handoff."""
    due_at = clock.now() + timedelta(hours=1)
    request = HandoffRequest(intent="park", reason="call back", due_at=due_at)
    write = call_hand_off(clock, assess=False, wake=lambda: None)(world.call, request)
    await write(database)
    await write(database)

    queue = await handoffs.queue(database, world.id, QueueFilter(), limit=5)
    [handoff] = queue.items
    assert (handoff.state, handoff.due_at, handoff.consent) == ("scheduled", due_at, True)
    assert handoff.time_zone == world.number.time_zone
