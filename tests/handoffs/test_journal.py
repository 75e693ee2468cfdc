"""The journal: no line is lost or repeated, and every alteration is found."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bench.handoff_journal import journal
from db import handoff_events, routes
from db import journal as journal_rows
from db.journal import JournalLock
from db.pool import Database
from db.routes import RouteStatus
from tests.db.seed import NOON, SeededAccount, make_route
from tests.handoffs.fixtures import HandoffEnvironment, ManualClock
from voicebot.handoffs.journal import DEBOUNCE_S, Journal
from voicebot.handoffs.journal_chain import JournalBroken, JournalKeys
from voicebot.handoffs.journal_files import JournalFiles, journal_files
from voicebot.handoffs.journal_verification import verify

KEYS = JournalKeys([b"k" * 32])


async def written(journal: Journal) -> None:
    journal.stop()
    await asyncio.wait_for(journal.run(), 30)


def lines(directory: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in journal_files(directory)
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


async def append_events(database: Database, world: SeededAccount, count: int) -> None:
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
    files = JournalFiles(directory, KEYS, full_bytes=full_bytes)
    files.open()
    for seq in range(files.end.seq + 1, files.end.seq + count + 1):
        files.append([{"seq": seq, "kind": "gate_transition", "summary": f"line {seq}"}])
    files.close()


async def test_the_lines_of_a_handoff(
    env: HandoffEnvironment, world: SeededAccount, clock: ManualClock, tmp_path: Path
) -> None:
    """Creation, claim and resolution are lines of their kinds with the expected members."""
    handoff = await env.escalate(world.call.id, reason="a refund")
    user_id = await env.operator()
    await env.service.claim(world.id, handoff.id, user_id)
    await env.service.resolve(world.id, handoff.id, user_id, resolution="refunded")
    await written(Journal(env.database, clock, tmp_path, KEYS))

    written_lines = lines(tmp_path)
    assert [(one["seq"], one["kind"]) for one in written_lines] == [
        (1, "router_escalation"),
        (2, "worker_started"),
        (3, "worker_completed"),
    ]
    assert written_lines[0]["summary"] == "a refund"
    assert (written_lines[0]["auto_proceed"], written_lines[0]["intent"]) == (True, "escalate")
    assert written_lines[0]["call_id"] == str(world.call.id)
    assert {one["handoff_id"] for one in written_lines} == {str(handoff.id)}
    assert written_lines[2]["summary"] == "completed: refunded"
    assert verify(tmp_path, KEYS).lines == 3


async def test_a_parked_call_is_a_goal(env: HandoffEnvironment, clock: ManualClock, tmp_path: Path) -> None:
    """Its lines have its id as goal_id."""
    handoff = await env.park(NOON + timedelta(hours=1))
    await written(Journal(env.database, clock, tmp_path, KEYS))

    [line] = lines(tmp_path)
    assert (line["kind"], line["goal_id"]) == ("goal_created", str(handoff.id))


async def test_each_route_is_one_line(database: Database, world: SeededAccount, tmp_path: Path) -> None:
    """A route is one line, however often it is written; `back`, refused and failed routes have lines too."""
    route = make_route(world)
    for one in (route, route, replace(make_route(world, seq=2), name="back")):
        await routes.complete(database, one)
    statuses: list[RouteStatus] = ["refused", "failed"]
    for seq, status in enumerate(statuses, 3):
        moved = replace(
            make_route(world, seq=seq), status=status, to_template_id=None, error_code="hop_limit"
        )
        for _ in range(2):
            await routes.record(database, moved)
    await written(Journal(database, ManualClock(), tmp_path, KEYS))

    found = lines(tmp_path)
    assert [(line["kind"], line["intent"]) for line in found] == [
        ("router_escalation", "billing"),
        ("router_escalation", "back"),
        ("refused", "billing"),
        ("failed", "billing"),
    ]
    assert (found[0]["call_id"], found[0]["summary"]) == (str(world.call.id), route.reason)
    assert found[0]["auto_proceed"] is True


async def test_two_writers_write_one_journal(
    database: Database, world: SeededAccount, tmp_path: Path
) -> None:
    """The second writer waits; together they write each line once."""
    await append_events(database, world, 100)
    writers = [Journal(database, ManualClock(datetime.now(UTC)), tmp_path, KEYS) for _ in range(2)]
    await asyncio.gather(*(written(writer) for writer in writers))

    assert verify(tmp_path, KEYS).lines == 100


async def test_events_do_not_make_a_process_that_waits_for_the_lock_connect(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is not the writer opens one connection each `LOCK_POLL_S`, whatever is committed."""
    attempts, real = 0, journal_rows.only_writer

    def counting(of: Database) -> AbstractAsyncContextManager[JournalLock | None]:
        nonlocal attempts
        attempts += of is database  # servers of other tests run in this process
        return real(of)

    monkeypatch.setattr("voicebot.handoffs.journal.LOCK_POLL_S", 3600.0)
    async with real(database) as held:
        assert held is not None
        monkeypatch.setattr("db.journal.only_writer", counting)
        waiting = Journal(database, ManualClock(datetime.now(UTC)), tmp_path, KEYS)
        running = asyncio.create_task(waiting.run())
        for _ in range(20):
            waiting.wake()
            await asyncio.sleep(DEBOUNCE_S)
        while not attempts:
            await asyncio.sleep(DEBOUNCE_S)
        waiting.stop()
        await running
    assert attempts == 1


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_writer_killed_at_any_time_is_continued_exactly(dsn: str, tmp_path: Path) -> None:
    """After ten kills the journal has every event once and verifies; a flipped byte is found."""
    found = await journal(dsn, tmp_path, kills=10)

    assert found["events"] > 10
    assert found["files"] > 1


@pytest.mark.parametrize("line", [1, 4, 10])
def test_every_alteration_of_a_line_is_found(tmp_path: Path, line: int) -> None:
    """A flipped byte in a line is reported with that line's number."""
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
            verify(tmp_path, KEYS)
        assert caught.value.line == line


def test_a_missing_and_a_moved_line_are_told_apart(tmp_path: Path) -> None:
    """The first line after a gap, or in a wrong place, is named."""
    chain(tmp_path, 6)
    [path] = journal_files(tmp_path)
    whole = path.read_text().splitlines(keepends=True)

    path.write_text("".join(whole[:2] + whole[3:]))
    with pytest.raises(JournalBroken, match="line 3: missing before it: 3 to 3"):
        verify(tmp_path, KEYS)
    path.write_text("".join([*whole[:2], whole[2], whole[1], *whole[3:]]))
    with pytest.raises(JournalBroken, match="line 4: moved"):
        verify(tmp_path, KEYS)


def test_a_sealed_file_cannot_be_cut_short(tmp_path: Path) -> None:
    """Lines removed from the end of a sealed file are reported as missing."""
    chain(tmp_path, 20, full_bytes=1500)
    path = journal_files(tmp_path)[0]
    assert not os.access(path, os.W_OK) or os.geteuid() == 0
    path.chmod(0o644)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))

    with pytest.raises(JournalBroken, match="missing"):
        verify(tmp_path, KEYS)


def test_an_incomplete_last_line_is_cut_off_at_start(tmp_path: Path) -> None:
    """The next line continues the last complete one."""
    chain(tmp_path, 3)
    [path] = journal_files(tmp_path)
    with path.open("ab") as file:
        file.write(b'{"seq":4,"at":"20')
    chain(tmp_path, 2)

    assert verify(tmp_path, KEYS).lines == 5


async def test_a_file_that_cannot_be_opened_loses_nothing(
    database: Database, world: SeededAccount, tmp_path: Path
) -> None:
    """An alarm is counted; the events stay in the database and are written later."""
    place = tmp_path / "journal"
    place.write_text("not a directory")
    await append_events(database, world, 3)
    writer = Journal(database, ManualClock(datetime.now(UTC)), place, KEYS)
    await written(writer)
    assert writer.alarms == 1
    place.unlink()
    await written(Journal(database, ManualClock(datetime.now(UTC)), place, KEYS))

    assert verify(place, KEYS).lines == 3


async def test_lag_is_a_line_with_its_count(database: Database, world: SeededAccount, tmp_path: Path) -> None:
    """Events that were written late are followed by a line with their number and delay."""
    await append_events(database, world, 3)
    await written(Journal(database, ManualClock(datetime.now(UTC) + timedelta(minutes=5)), tmp_path, KEYS))

    last = lines(tmp_path)[-1]
    assert (last["seq"], last["kind"]) == (4, "lag")
    assert last["summary"].startswith("3 events were written late")


async def test_deleted_events_are_a_gap_line_with_their_count(
    database: Database, world: SeededAccount, tmp_path: Path
) -> None:
    """A journal that starts on another disk reports the number of missing lines, and verifies."""
    await append_events(database, world, 5)
    await written(Journal(database, ManualClock(datetime.now(UTC)), tmp_path / "first", KEYS))
    await handoff_events.delete_old(database, datetime.now(UTC) + timedelta(days=1), limit=1000)
    await append_events(database, world, 2)
    await written(Journal(database, ManualClock(datetime.now(UTC)), tmp_path / "second", KEYS))

    written_lines = lines(tmp_path / "second")
    assert [(one["seq"], one["kind"]) for one in written_lines[:2]] == [(4, "gap"), (5, "gate_transition")]
    assert written_lines[0]["summary"].startswith("4 lines")
    assert verify(tmp_path / "second", KEYS).lines == 4
