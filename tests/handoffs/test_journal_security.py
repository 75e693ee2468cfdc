"""The journal against attackers who can write its files, and against its own failures."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import stat
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.fernet import Fernet
from prometheus_client import CollectorRegistry, generate_latest

from db import handoff_events, handoff_metrics, journal
from db.pool import Database
from handlers.context import HandoffStatus
from tests.db.seed import SeededAccount
from tests.handoffs.fixtures import ManualClock
from tests.handoffs.test_journal import KEYS, append_events, chain, lines, written
from voicebot.clock import SystemClock
from voicebot.handoffs import journal_report
from voicebot.handoffs.handoff_runtime import HandoffDependencies, HandoffRuntime
from voicebot.handoffs.journal import Journal
from voicebot.handoffs.journal_chain import MEMBERS, ORIGIN, JournalBroken, JournalKeys
from voicebot.handoffs.journal_files import PART_ID, JournalFiles, journal_files, seal_of
from voicebot.handoffs.journal_report import Report
from voicebot.handoffs.journal_verification import verify
from voicebot.handoffs.queue_metrics import QueueMetrics
from voicebot.vault import Vault


def writer(database: Database, directory: Path, **more: Any) -> Journal:
    """A writer of a directory."""
    return Journal(database, ManualClock(datetime.now(UTC)), directory, KEYS, **more)


async def write_events(
    database: Database, world: SeededAccount, directory: Path, count: int, **more: Any
) -> None:
    """Commit events and write them."""
    await append_events(database, world, count)
    await written(writer(database, directory, **more))


async def verified(database: Database, *directories: Path) -> Report:
    """What `voicebot journal verify` reports."""
    known = await journal.parts(database)
    return await asyncio.to_thread(journal_report.verify, directories, KEYS, known)


def unkeyed(count: int) -> bytes:
    """Lines as earlier versions wrote them: the hash is one that anybody can compute."""
    text, prev = b"", ORIGIN
    for seq in range(1, count + 1):
        members = dict.fromkeys(MEMBERS) | {"seq": seq, "kind": "gate_transition", "prev": prev}
        canonical = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        prev = hashlib.sha256(canonical.encode()).hexdigest()
        text += json.dumps(members | {"hash": prev}, separators=(",", ":")).encode() + b"\n"
    return text


def drop_lines(path: Path, count: int) -> None:
    """Remove lines from the end of a file."""
    path.chmod(0o600)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-count]))


async def test_whoever_can_write_the_file_cannot_forge_it(
    database: Database, world: SeededAccount, tmp_path: Path
) -> None:
    """A chain computed with another key, or without one, is not accepted."""
    await write_events(database, world, tmp_path, 3)
    [path] = journal_files(tmp_path)
    documents = lines(tmp_path)

    path.write_bytes(b"")
    forger = JournalFiles(tmp_path, JournalKeys([b"not the key"]))
    forger.open()
    forger.append(documents)
    forger.close()
    with pytest.raises(JournalBroken, match="line 1: its key"):
        verify(tmp_path, KEYS)

    path.write_bytes(unkeyed(3))
    with pytest.raises(JournalBroken, match="line 3: altered: it is not the line that was written"):
        await verified(database, tmp_path)


def test_lines_from_before_the_key_are_named(tmp_path: Path) -> None:
    """`verify` says that unkeyed lines prove nothing, until a keyed line follows and protects them."""
    path = tmp_path / "journal-000000000001.jsonl"
    path.write_bytes(unkeyed(3))
    assert "None is keyed" in journal_report.verify([tmp_path], KEYS, None).lines[0]
    chain(tmp_path, 2)
    assert "The first 3 are from before" in journal_report.verify([tmp_path], KEYS, None).lines[0]

    with path.open("ab") as file:
        file.write(unkeyed(6).splitlines(keepends=True)[5])
    with pytest.raises(JournalBroken, match="line 6: altered"):
        verify(tmp_path, KEYS)


def test_the_key_of_the_journal_is_rotated(tmp_path: Path) -> None:
    """Lines of the old and the new key form one chain, which both keys together verify."""
    for secrets in ([b"old"], [b"new", b"old"]):
        files = JournalFiles(tmp_path, JournalKeys(secrets))
        files.open()
        files.append([{"seq": files.end.seq + 1, "kind": "gate_transition"}])
        files.close()

    assert verify(tmp_path, JournalKeys([b"new", b"old"])).lines == 2
    assert len({line["key"] for line in lines(tmp_path)}) == 2
    with pytest.raises(JournalBroken, match=r"line 1: its key .* is not one of VOICEBOT_SECRET_KEY"):
        verify(tmp_path, JournalKeys([b"new"]))


def test_the_files_are_private(tmp_path: Path) -> None:
    """The directory has mode 0700 and its files 0600, sealed ones 0400, also if they were wider."""
    directory = tmp_path / "data" / "journal"
    chain(directory, 10, full_bytes=1500)
    directory.chmod(0o755)
    journal_files(directory)[-1].chmod(0o644)
    chain(directory, 1, full_bytes=1500)

    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} <= {0o600, 0o400}


@pytest.mark.parametrize("cut", [1, 3])
async def test_a_cut_tail_is_found(
    database: Database, world: SeededAccount, tmp_path: Path, cut: int
) -> None:
    """Lines removed from the end are reported, and the writer stops with an alarm instead of going on."""
    await write_events(database, world, tmp_path, 5)
    drop_lines(journal_files(tmp_path)[0], cut)

    with pytest.raises(JournalBroken, match=f"missing at the end: {6 - cut} to 5"):
        await verified(database, tmp_path)
    stopped = writer(database, tmp_path)
    await written(stopped)
    assert (stopped.alarms, len(lines(tmp_path))) == (1, 5 - cut)


async def test_a_removed_sealed_file_is_found(
    database: Database, world: SeededAccount, tmp_path: Path
) -> None:
    """The last sealed file is missed, with its seal or without."""
    await write_events(database, world, tmp_path, 12, full_bytes=1000)
    last = journal_files(tmp_path)[-1]
    seal = seal_of(last)
    assert seal in await asyncio.to_thread(lambda: list(tmp_path.iterdir()))
    last.unlink()
    with pytest.raises(JournalBroken, match="the sealed file was removed"):
        await verified(database, tmp_path)
    seal.unlink()
    with pytest.raises(JournalBroken, match="missing at the end"):
        await verified(database, tmp_path)


async def test_an_altered_last_line_stops_the_writer_with_an_alarm(
    database: Database, world: SeededAccount, tmp_path: Path
) -> None:
    """Nothing is written after it; the alarm is logged once and in a metric, and the events wait."""
    await write_events(database, world, tmp_path, 2)
    [path] = journal_files(tmp_path)
    altered = path.read_text().replace("event 1", "event 7")
    path.write_text(altered)
    await append_events(database, world, 3)
    stopped = writer(database, tmp_path)
    await written(stopped)

    assert path.read_text() == altered
    assert "line 2: altered" in str(stopped.alarm)
    assert await waiting(database) == 3.0


async def test_a_file_that_is_changed_while_it_is_open_stops_the_writer(tmp_path: Path) -> None:
    """A line that another program appended, or a removed file, is found before the next line is written."""
    files = JournalFiles(tmp_path, KEYS)
    files.open()
    files.append([{"seq": 1, "kind": "gate_transition"}])
    [path] = journal_files(tmp_path)
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(JournalBroken, match="another program"):
        files.append([{"seq": 2, "kind": "gate_transition"}])
    path.unlink()
    with pytest.raises(JournalBroken, match="removed"):
        files.append([{"seq": 2, "kind": "gate_transition"}])
    files.close()


async def waiting(database: Database) -> float:
    """The metric `voicebot_journal_waiting`."""
    registry = CollectorRegistry()
    await QueueMetrics(database, SystemClock(), registry).update()
    found = registry.get_sample_value("voicebot_journal_waiting")
    assert found is not None
    return found


async def test_waiting_events_are_those_that_are_not_in_a_file(
    database: Database, world: SeededAccount, tmp_path: Path
) -> None:
    """Events that have a line number but are not written count as waiting, and written ones do not."""
    await append_events(database, world, 3)
    assert await waiting(database) == 3.0
    await journal.number(database, limit=10)
    assert await waiting(database) == 3.0
    metrics = await handoff_metrics.totals(database)
    assert metrics.oldest_unjournaled_at is not None
    await written(writer(database, tmp_path))
    assert await waiting(database) == 0.0


async def test_an_honest_journal_in_a_new_directory_is_whole(
    database: Database, world: SeededAccount, tmp_path: Path
) -> None:
    """Lines that the database has deleted are gaps, also between those it has kept; the old part is found."""
    old, new = tmp_path / "old", tmp_path / "new"
    await append_events(database, world, 3)
    late = ManualClock(datetime.now(UTC) + timedelta(minutes=5))
    await written(Journal(database, late, old, KEYS))
    await write_events(database, world, old, 4)
    await handoff_events.delete_old(database, datetime.now(UTC) + timedelta(days=1), limit=1000)
    await write_events(database, world, new, 2)

    assert [line["kind"] for line in lines(new)][:4] == ["gap", "lag", "gap", "gate_transition"]
    report = await verified(database, new)
    assert report.complete, report.lines
    assert len(report.lines) == 3

    old.rename(tmp_path / "moved")
    report = await verified(database, new)
    assert not report.complete
    assert "was not found" in report.lines[1]
    assert "lines 1 to 3, 5 to 7" in report.lines[-1]
    assert (await verified(database, new, tmp_path / "moved")).complete


async def test_one_verify_finds_the_parts_of_all_replicas(
    database: Database, world: SeededAccount, tmp_path: Path
) -> None:
    """Directories of this host are found; those of others are listed, and no lines are taken for missing."""
    for number in range(3):
        await write_events(database, world, tmp_path / f"replica-{number}", 2)
    report = await verified(database)
    assert report.complete, report.lines
    assert [line.split(":")[0] for line in report.lines[:-1]] == [
        str(tmp_path / f"replica-{number}") for number in range(3)
    ]

    await database.execute(
        "UPDATE journal_parts SET host = 'elsewhere' WHERE directory <> $1", str(tmp_path / "replica-2")
    )
    report = await verified(database)
    assert report.complete, report.lines
    assert sum("on elsewhere was not found" in line for line in report.lines) == 2
    drop_lines(journal_files(tmp_path / "replica-0")[0], 1)
    with pytest.raises(JournalBroken, match="missing at the end: 2 to 2"):
        await verified(database, tmp_path / "replica-0")


async def test_the_journal_of_another_database_is_not_continued(
    database: Database, world: SeededAccount, tmp_path: Path
) -> None:
    """Its lines have other numbers: the writer stops with an alarm, and the events wait."""
    await write_events(database, world, tmp_path, 3)
    await database.execute("DELETE FROM journal_parts")
    stopped = writer(database, tmp_path)
    await written(stopped)

    assert "another database" in str(stopped.alarm)
    with pytest.raises(JournalBroken, match="the database does not know the part"):
        await verified(database, tmp_path)


async def test_a_journal_without_an_id_is_taken_over(
    database: Database, world: SeededAccount, tmp_path: Path
) -> None:
    """The directory of an earlier version gets an id and continues; `part.id` of this host names it."""
    chain(tmp_path, 3)
    await append_events(database, world, 4)
    await written(writer(database, tmp_path))

    [part] = (await journal.parts(database)).values()
    assert (part.host, part.directory, part.last_line) == (socket.gethostname(), str(tmp_path), 4)
    assert (tmp_path / PART_ID).read_text().strip() == str(part.id)
    assert (await verified(database, tmp_path)).complete


async def test_what_is_committed_before_the_stop_is_written(
    database: Database, world: SeededAccount, tmp_path: Path
) -> None:
    """The writer's last batch begins after the stop."""
    for number in range(1, 11):
        running = writer(database, tmp_path)
        task = asyncio.create_task(running.run())
        await append_events(database, world, 1)
        running.stop()
        await asyncio.wait_for(task, 20)
        assert verify(tmp_path, KEYS).lines == number


class NoCalls:
    """A process without calls."""

    def held(self) -> Collection[UUID]:
        return ()

    def handoff_changed(self, call_id: UUID, status: HandoffStatus) -> None:
        raise AssertionError(f"{call_id}: {status}")

    def calling_destinations(self) -> Collection[UUID]:
        return ()

    def not_accepted(self, call_id: UUID, leg_id: UUID, cause: str) -> None:
        raise AssertionError(f"{call_id}: {leg_id} {cause}")


async def test_the_journal_stops_after_the_scheduler(
    database: Database, world: SeededAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that the scheduler commits while it is stopped is in the file when `stop` returns."""
    runtime = HandoffRuntime(
        database,
        SystemClock(),
        HandoffDependencies(
            vault=Vault(Fernet.generate_key()),
            journal=tmp_path,
            journal_keys=KEYS,
            registry=CollectorRegistry(),
        ),
    )
    started = asyncio.Event()

    async def schedule() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            started.set()
            await asyncio.Event().wait()
        await append_events(database, world, 1)
        raise asyncio.CancelledError

    monkeypatch.setattr(runtime.scheduler, "run", schedule)
    runtime.start(lambda: False, NoCalls())
    await asyncio.wait_for(started.wait(), 10)
    await runtime.stop()

    assert verify(tmp_path, KEYS).lines == 1


async def test_the_alarm_is_a_metric(database: Database, tmp_path: Path) -> None:
    """`voicebot_journal_alarm` is 1 while the files cannot be used."""
    place = tmp_path / "journal"
    place.write_text("not a directory")
    registry = CollectorRegistry()
    runtime = HandoffRuntime(
        database,
        SystemClock(),
        HandoffDependencies(
            vault=Vault(Fernet.generate_key()), journal=place, journal_keys=KEYS, registry=registry
        ),
    )
    assert b"voicebot_journal_alarm 0.0" in generate_latest(registry)
    runtime.journal.stop()
    await runtime.journal.run()
    assert b"voicebot_journal_alarm 1.0" in generate_latest(registry)
