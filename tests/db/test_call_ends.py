"""The end of a call together with its event."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from db import calls, events, leads
from db.call_ends import finish_with_event
from db.calls import CallEnd
from db.ids import new_id
from db.pool import Database
from tests.db.seed import NOON, SeededAccount, make_event

HANGUP = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=NOON + timedelta(seconds=9))
WAITING = """
    SELECT 1 FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND query LIKE '%UPDATE calls SET status%' AND datname = current_database()
        AND pid <> pg_backend_pid()
"""
DATA = {"ended_by": "caller", "reason": "hangup"}


async def test_the_first_end_is_written_with_its_event(database: Database, seeded: SeededAccount) -> None:
    """The event has the next number of its call, and no earlier time; a later end writes none."""
    earlier = replace(make_event(seeded), at=HANGUP.ended_at + timedelta(seconds=1))
    await events.append(database, earlier)
    end = (database, seeded.id, seeded.call.id)
    first = await finish_with_event(*end, HANGUP, DATA)
    second = await finish_with_event(*end, replace(HANGUP, ended_by="agent"), {"ended_by": "agent"})
    assert (first.first, second.first) == (True, False)
    assert first.call == second.call
    assert (await leads.get(database, seeded.id, seeded.call.lead_id)).status == "finished"
    *_, last = written = await events.of_call(database, seeded.id, seeded.call.id)
    assert [event.type for event in written].count("call.ended") == 1
    assert (last.type, last.data, last.at) == ("call.ended", DATA, earlier.at)
    assert (last.template_id, last.node) == (first.call.template_id, first.call.node)


async def test_an_answered_call_is_left_as_it_is(database: Database, seeded: SeededAccount) -> None:
    """Only if that is asked for."""
    await calls.answered(database, seeded.id, seeded.call.id, NOON)
    end = (database, seeded.id, seeded.call.id, HANGUP, DATA)
    left = await finish_with_event(*end, only_unanswered=True)
    assert (left.first, left.call.status) == (False, "in_progress")
    assert await events.of_call(database, seeded.id, seeded.call.id) == []
    assert (await finish_with_event(*end)).first


async def test_another_event_at_the_same_time_does_not_fail_the_end(
    database: Database, seeded: SeededAccount
) -> None:
    """Their numbers collide, and the end is written again with the next one."""
    await events.append(database, make_event(seeded))
    async with database.transaction() as other:
        await events.append(other, replace(make_event(seeded), id=new_id()))
        ending = asyncio.create_task(finish_with_event(database, seeded.id, seeded.call.id, HANGUP, DATA))
        async with asyncio.timeout(30):
            while await database.fetchrow(WAITING) is None:
                await asyncio.sleep(0.01)
    assert (await ending).first
    written = await events.of_call(database, seeded.id, seeded.call.id)
    assert [event.seq for event in written] == [1, 2, 3]
    assert written[-1].type == "call.ended"
