"""The journal: nothing lost, nothing doubled, nothing altered without being found."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bench.handoff_journal import journal
from db import handoff_events, routes
from db.pool import Database
from tests.db.seed import NOON, SeededAccount, make_route
from tests.handoffs.fixtures import HandoffEnvironment, ManualClock
from voicebot.handoffs.journal import Journal
from voicebot.handoffs.journal_files import JournalBroken, JournalFiles, journal_files, verify


async def written(journal: Journal) -> None:
    journal.stop()
    await asyncio.wait_for(journal.run(), 20)


def lines(directory: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in journal_files(directory)
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


async def tell(database: Database, world: SeededAccount, count: int) -> None:
    for number in range(count):
        async with database.transaction() as transaction:
            await handoff_events.append(
                transaction,
                world.id,
                "handoff.offered",
                datetime.now(UTC),
                kind="gate_transition",
                data={"summary": f"event {number}"},
            )


def chain(directory: Path, count: int, full_bytes: int = 10**6) -> None:
    files = JournalFiles(directory, full_bytes=full_bytes)
    files.open()
    for seq in range(files.end.seq + 1, files.end.seq + count + 1):
        files.append([{"seq": seq, "kind": "gate_transition", "summary": f"line {seq}"}])
    files.close()


async def test_the_story_of_a_handoff(
    env: HandoffEnvironment, world: SeededAccount, clock: ManualClock, tmp_path: Path
) -> None:
    """Escalated, claimed, resolved: each a line of its kind, with what the journal tells of it."""
    handoff = await env.escalate(world.call.id, reason="a refund")
    user_id = await env.operator()
    await env.service.claim(world.id, handoff.id, user_id)
    await env.service.resolve(world.id, handoff.id, user_id, resolution="refunded")
    await written(Journal(env.database, clock, tmp_path))

    told = lines(tmp_path)
    assert [(one["seq"], one["kind"]) for one in told] == [
        (1, "router_escalation"),
        (2, "worker_started"),
        (3, "worker_completed"),
    ]
    assert told[0]["summary"] == "a refund"
    assert (told[0]["auto_proceed"], told[0]["intent"]) == (True, "escalate")
    assert told[0]["call_id"] == str(world.call.id)
    assert {one["handoff_id"] for one in told} == {str(handoff.id)}
    assert told[2]["summary"] == "completed: refunded"
    assert verify(tmp_path) == 3


async def test_a_parked_call_is_a_goal(env: HandoffEnvironment, clock: ManualClock, tmp_path: Path) -> None:
    """Its lines name it as the goal."""
    handoff = await env.park(NOON + timedelta(hours=1))
    await written(Journal(env.database, clock, tmp_path))

    [line] = lines(tmp_path)
    assert (line["kind"], line["goal_id"]) == ("goal_created", str(handoff.id))


async def test_a_route_is_a_line_and_going_back_is_none(
    database: Database, world: SeededAccount, tmp_path: Path
) -> None:
    """What the model decided by itself is told once, however often it is written; trivial routes are not."""
    route = make_route(world)
    for one in (route, route, replace(make_route(world, seq=2), name="back")):
        await routes.complete(database, one)
    await written(Journal(database, ManualClock(), tmp_path))

    [line] = lines(tmp_path)
    assert (line["kind"], line["intent"], line["auto_proceed"]) == ("router_escalation", "billing", True)
    assert (line["call_id"], line["summary"]) == (str(world.call.id), route.reason)


async def test_two_writers_write_one_journal(
    database: Database, world: SeededAccount, tmp_path: Path
) -> None:
    """Whoever comes second waits; together they write each line once."""
    await tell(database, world, 100)
    writers = [Journal(database, ManualClock(datetime.now(UTC)), tmp_path) for _ in range(2)]
    await asyncio.gather(*(written(writer) for writer in writers))

    assert verify(tmp_path) == 100


@pytest.mark.long
@pytest.mark.timeout(120)
async def test_a_writer_killed_at_any_time_is_continued_exactly(dsn: str, tmp_path: Path) -> None:
    """Killed ten times, the journal has every event once and verifies; a flipped byte is found."""
    found = await journal(dsn, tmp_path, kills=10)

    assert found["events"] > 10
    assert found["files"] > 1


@pytest.mark.parametrize("line", [1, 4, 10])
def test_every_alteration_of_a_line_is_found(tmp_path: Path, line: int) -> None:
    """Whichever byte of a line is flipped, that line is named."""
    chain(tmp_path, 10)
    [path] = journal_files(tmp_path)
    whole = path.read_bytes()
    start = sum(len(one) for one in whole.splitlines(keepends=True)[: line - 1])
    length = len(whole.splitlines()[line - 1])
    for at in range(start, start + length, 3):
        content = bytearray(whole)
        content[at] ^= 1
        path.write_bytes(content)
        with pytest.raises(JournalBroken) as caught:
            verify(tmp_path)
        assert caught.value.line == line


def test_a_missing_and_a_moved_line_are_told_apart(tmp_path: Path) -> None:
    """The first line after the hole, or out of its place, is named."""
    chain(tmp_path, 6)
    [path] = journal_files(tmp_path)
    whole = path.read_text().splitlines(keepends=True)

    path.write_text("".join(whole[:2] + whole[3:]))
    with pytest.raises(JournalBroken, match="line 3: missing before it: 3 to 3"):
        verify(tmp_path)
    path.write_text("".join([*whole[:2], whole[2], whole[1], *whole[3:]]))
    with pytest.raises(JournalBroken, match="line 4: moved"):
        verify(tmp_path)


def test_a_sealed_file_cannot_be_cut_short(tmp_path: Path) -> None:
    """Whole lines taken from the end of a sealed file are missed."""
    chain(tmp_path, 20, full_bytes=1500)
    path = journal_files(tmp_path)[0]
    assert not os.access(path, os.W_OK) or os.geteuid() == 0
    path.chmod(0o644)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))

    with pytest.raises(JournalBroken, match="missing"):
        verify(tmp_path)


def test_a_torn_tail_is_mended_at_start(tmp_path: Path) -> None:
    """Half a line at the end is cut off, and the next line continues the last whole one."""
    chain(tmp_path, 3)
    [path] = journal_files(tmp_path)
    with path.open("ab") as file:
        file.write(b'{"seq":4,"at":"20')
    chain(tmp_path, 2)

    assert verify(tmp_path) == 5


async def test_a_file_that_cannot_be_opened_loses_nothing(
    database: Database, world: SeededAccount, tmp_path: Path
) -> None:
    """It is an alarm; the events wait in the database, and are written when it can be."""
    place = tmp_path / "journal"
    place.write_text("not a directory")
    await tell(database, world, 3)
    writer = Journal(database, ManualClock(datetime.now(UTC)), place)
    await written(writer)
    assert writer.alarms == 1
    place.unlink()
    await written(Journal(database, ManualClock(datetime.now(UTC)), place))

    assert verify(place) == 3


async def test_lag_is_a_line_with_its_count(database: Database, world: SeededAccount, tmp_path: Path) -> None:
    """Events that were written late are followed by a line that says how many, and how late."""
    await tell(database, world, 3)
    await written(Journal(database, ManualClock(datetime.now(UTC) + timedelta(minutes=5)), tmp_path))

    last = lines(tmp_path)[-1]
    assert (last["seq"], last["kind"]) == (4, "lag")
    assert last["summary"].startswith("3 events were written late")


async def test_what_was_forgotten_is_a_line_with_its_count(
    database: Database, world: SeededAccount, tmp_path: Path
) -> None:
    """A journal begun anew on another disk says how much it has missed, and verifies."""
    await tell(database, world, 5)
    await written(Journal(database, ManualClock(datetime.now(UTC)), tmp_path / "first"))
    await handoff_events.delete_old(database, datetime.now(UTC) + timedelta(days=1))
    await tell(database, world, 2)
    await written(Journal(database, ManualClock(datetime.now(UTC)), tmp_path / "second"))

    told = lines(tmp_path / "second")
    assert [(one["seq"], one["kind"]) for one in told[:2]] == [(4, "gap"), (5, "gate_transition")]
    assert told[0]["summary"].startswith("4 lines")
    assert verify(tmp_path / "second") == 4
