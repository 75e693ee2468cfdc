"""Handoffs of live calls are written in order with the call's transcript."""

from __future__ import annotations

from datetime import timedelta

from db import handoffs, utterances
from db.handoffs import QueueFilter
from db.pool import Database
from handlers.context import HandoffRequest
from tests.db.seed import SeededAccount, make_utterance
from tests.handoffs.fixtures import ManualClock
from voicebot.call.transcript.recorder import CallWriter
from voicebot.handoffs.create import call_hand_off


async def test_the_snapshot_has_the_transcript_up_to_the_handoff(
    database: Database, world: SeededAccount, clock: ManualClock
) -> None:
    """The write is queued between the utterances, so later ones are not in the snapshot."""
    wakeups = []
    hand_off = call_hand_off(clock, assess=False, wake=lambda: wakeups.append(1))
    writer = CallWriter(database, world.call.id)
    writer.write(lambda db: utterances.record(db, make_utterance(world, seq=1)))
    writer.write(hand_off(world.call, HandoffRequest(intent="escalate", reason="a refund")))
    writer.write(lambda db: utterances.record(db, make_utterance(world, seq=2)))
    await writer.close()

    queue = await handoffs.queue(database, world.id, QueueFilter(), limit=5)
    [handoff] = queue.items
    snapshot = await handoffs.snapshot(database, world.id, handoff.id)
    assert len(snapshot["transcript"]) == 1
    assert (handoff.call_id, handoff.origin, handoff.reason) == (world.call.id, "model", "a refund")
    assert wakeups == [1]


async def test_a_repeated_write_creates_one_handoff(
    database: Database, world: SeededAccount, clock: ManualClock
) -> None:
    """The call writer repeats a write when the connection is lost after the commit."""
    due_at = clock.now() + timedelta(hours=1)
    request = HandoffRequest(intent="park", reason="call back", due_at=due_at)
    write = call_hand_off(clock, assess=False, wake=lambda: None)(world.call, request)
    await write(database)
    await write(database)

    queue = await handoffs.queue(database, world.id, QueueFilter(), limit=5)
    [handoff] = queue.items
    assert (handoff.state, handoff.due_at, handoff.consent) == ("scheduled", due_at, True)
    assert handoff.time_zone == world.number.time_zone
