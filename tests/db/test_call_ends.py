"""The ends of calls together with their events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from db import calls, events, inbound, leads
from db.call_ends import EndWithEvent, finish_unanswered, finish_with_event
from db.calls import CallEnd, CallRecord
from db.ids import new_id
from db.pool import Database
from tests.db.seed import NOON, SeededAccount, make_event, webhook

HANGUP = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=NOON + timedelta(seconds=9))
WAITING = """
    SELECT 1 FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND query LIKE '%given (account_id, call_id, ended_by%'
        AND datname = current_database() AND pid <> pg_backend_pid()
"""
DATA = {"ended_by": "caller", "reason": "hangup"}


def end_of(call: CallRecord, end: CallEnd = HANGUP) -> EndWithEvent:
    """An end of a call."""
    return EndWithEvent(account_id=call.account_id, call_id=call.id, end=end, data=DATA)


async def begun(database: Database, seeded: SeededAccount, count: int) -> Sequence[CallRecord]:
    """So many new calls."""
    started = [await inbound.begin(database, webhook(seeded.number.e164, f"CA-{n}")) for n in range(count)]
    return [each.call for each in started]


async def test_the_first_end_is_written_with_its_event(database: Database, seeded: SeededAccount) -> None:
    """The event has the next number of its call, and no earlier time; a later end writes none."""
    earlier = replace(make_event(seeded), at=HANGUP.ended_at + timedelta(seconds=1))
    await events.append(database, earlier)
    first = await finish_with_event(database, end_of(seeded.call))
    again = await finish_with_event(database, end_of(seeded.call))
    second = await finish_with_event(database, end_of(seeded.call, replace(HANGUP, ended_by="agent")))
    assert (first, again, second) == ("first", "first", "later")
    call = await calls.get(database, seeded.id, seeded.call.id)
    assert (call.status, call.ended_by, call.end_reason, call.ended_at) == (
        "ended", "caller", "hangup", HANGUP.ended_at,
    )  # fmt: skip
    assert (await leads.get(database, seeded.id, seeded.call.lead_id)).status == "finished"
    *_, last = written = await events.of_call(database, seeded.id, seeded.call.id)
    assert [event.type for event in written].count("call.ended") == 1
    assert (last.type, last.data, last.at) == ("call.ended", DATA, earlier.at)
    assert (last.template_id, last.node) == (call.template_id, call.node)


async def test_calls_end_together_unless_they_were_answered(
    database: Database, seeded: SeededAccount
) -> None:
    """One statement ends them; one that was answered goes on, and one that had ended keeps its end."""
    one, two, answered, ended = await begun(database, seeded, 4)
    await calls.answered(database, answered.account_id, answered.id, NOON)
    await finish_with_event(database, end_of(ended, replace(HANGUP, ended_by="agent")))
    finished = await finish_unanswered(database, [end_of(each) for each in (one, answered, ended, two)])
    assert finished == ["first", "answered", "later", "first"]
    for call in (one, two):
        assert [event.type for event in await events.of_call(database, seeded.id, call.id)] == ["call.ended"]
        assert (await leads.get(database, seeded.id, call.lead_id)).status == "finished"
    assert (await calls.get(database, seeded.id, answered.id)).status == "in_progress"
    assert await events.of_call(database, seeded.id, answered.id) == []
    assert (await calls.get(database, seeded.id, ended.id)).ended_by == "agent"


async def test_a_locked_call_holds_up_the_end_of_no_other(database: Database, seeded: SeededAccount) -> None:
    """It is undecided, and ends when its end is given again."""
    one, locked = await begun(database, seeded, 2)
    async with database.transaction() as other:
        await other.execute("SELECT FROM calls WHERE id = $1 FOR UPDATE", locked.id)
        async with asyncio.timeout(4):  # less than the database waits for a lock
            finished = await finish_unanswered(database, [end_of(one), end_of(locked)])
    assert finished == ["first", "undecided"]
    assert await finish_unanswered(database, [end_of(locked)]) == ["first"]


async def beside_another_event(
    database: Database, seeded: SeededAccount, end: Callable[[], Coroutine[Any, Any, object]]
) -> object:
    """The result of ending the seeded call while another transaction writes an event with the same number."""
    event = make_event(seeded)
    await events.append(database, event)
    async with database.transaction() as other:
        await events.append(other, replace(event, id=new_id()))
        ending = asyncio.create_task(end())
        async with asyncio.timeout(30):
            while await database.fetchrow(WAITING) is None:
                await asyncio.sleep(0.01)
    return await ending


async def test_another_event_at_the_same_time_does_not_fail_the_end(
    database: Database, seeded: SeededAccount
) -> None:
    """The end is written again, with the next number."""
    end = end_of(seeded.call)
    assert await beside_another_event(database, seeded, lambda: finish_with_event(database, end)) == "first"
    written = await events.of_call(database, seeded.id, seeded.call.id)
    assert [(event.seq, event.type) for event in written][2:] == [(3, "call.ended")]


async def test_ends_are_undecided_if_another_event_is_written_at_the_same_time(
    database: Database, seeded: SeededAccount
) -> None:
    """Nothing is stored; the calls end when their ends are given again."""
    (other,) = await begun(database, seeded, 1)
    ends = [end_of(other), end_of(seeded.call)]
    found = await beside_another_event(database, seeded, lambda: finish_unanswered(database, ends))
    assert found == ["undecided", "undecided"]
    assert await finish_unanswered(database, ends) == ["first", "first"]
