"""Whether the journal survives repeated kills of its writer, and detects one changed byte.

``python -m bench.handoff_journal --kills 20`` commits events while each writer lives for a fraction of a
second, and prints JSON; ``--full``: 100 kills. It fails unless the journal verifies with every event once, in
the order of its lines, and, after one byte of it was flipped, ``verify`` names exactly that line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from bench.handoff_setup import ROOT, fresh_server
from bench.report import run_and_report
from db import accounts, handoff_events, notify
from db.pool import Database
from voicebot.clock import SystemClock
from voicebot.handoffs.journal import Journal
from voicebot.handoffs.journal_chain import JournalBroken, JournalKeys
from voicebot.handoffs.journal_files import journal_files
from voicebot.handoffs.journal_verification import verify

PAUSE_S = 0.02
"""Between two events, which go on for as long as writers are killed."""

KEYS = JournalKeys([b"bench" * 8])
FULL_BYTES = 20_000
"""Files are soon full, so that writers also die while they seal."""


async def journal(dsn: str, directory: Path, kills: int) -> dict[str, Any]:
    """See the module.

    Raises:
        AssertionError: an event is missing, doubled or out of order, or the flipped byte was not found.
    """
    database = await Database.connect(dsn)
    account = (await accounts.create(database, "Journal")).id
    killing = asyncio.create_task(_kill_writers(dsn, directory, kills))
    events = 0
    while not killing.done() or events < kills:
        events += 1
        await _append_events(database, account, events)
        await asyncio.sleep(PAUSE_S)
    await killing
    by_the_killed = len(_lines(directory))
    assert by_the_killed, "no writer wrote before it was killed, so the run proves nothing"
    last = Journal(database, SystemClock(), directory, KEYS, full_bytes=FULL_BYTES)
    last.stop()
    await asyncio.wait_for(last.run(), 60)
    await database.close()
    received = [line["summary"] for line in _lines(directory) if line["kind"] == "gate_transition"]
    assert received == [f"event {number}" for number in range(1, events + 1)], (
        "missing, repeated or misplaced"
    )
    whole = verify(directory, KEYS).lines
    assert whole == len(_lines(directory)), f"{whole} lines verified of {len(_lines(directory))}"
    return {
        "kills": kills,
        "events": events,
        "lines_by_the_killed": by_the_killed,
        "files": len(journal_files(directory)),
        "flipped": _flip_and_find(directory, random.Random(7)),
    }


async def _kill_writers(dsn: str, directory: Path, kills: int) -> None:
    chance = random.Random(5)
    for _ in range(kills):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.handoff_journal",
            "--writer",
            dsn,
            str(directory),
            stdout=PIPE,
            cwd=ROOT,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n", "a writer did not start"
        await asyncio.sleep(chance.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        await process.wait()


async def _append_events(database: Database, account: UUID, number: int) -> None:
    async with database.transaction() as transaction:
        await handoff_events.append(
            transaction,
            account,
            "handoff.offered",
            datetime.now(UTC),
            kind="gate_transition",
            data={"summary": f"event {number}"},
        )


def _lines(directory: Path) -> list[dict[str, Any]]:
    """All complete lines; a writer may be writing one."""
    return [
        json.loads(line)
        for path in journal_files(directory)
        for line in path.read_bytes().rpartition(b"\n")[0].splitlines()
    ]


def _flip_and_find(directory: Path, chance: random.Random) -> dict[str, Any]:
    path = chance.choice(journal_files(directory))
    content = bytearray(path.read_bytes())
    at = chance.choice([place for place, byte in enumerate(content) if byte != ord("\n")])
    line = content[:at].count(b"\n") + 1
    content[at] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    try:
        verify(directory, KEYS)
    except JournalBroken as broken:
        found = (broken.file, broken.line)
        assert found == (path.name, line), f"{found} was named, {path.name} line {line} was altered"
        return {"file": path.name, "line": line}
    raise AssertionError(f"{path.name} line {line} was altered and not found")


async def writer(dsn: str, directory: str) -> None:
    """A process that writes until it is killed."""
    database = await Database.connect(dsn, max_size=3)
    print("ready", flush=True)
    journal = Journal(database, SystemClock(), Path(directory), KEYS, full_bytes=FULL_BYTES)
    listening = notify.listen(dsn, handoff_events.CHANNEL, lambda _: journal.wake())
    await asyncio.gather(journal.run(), listening)


async def main() -> None:
    """Measure on a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--full", action="store_true", help="100 kills")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        async with fresh_server() as dsn:
            await run_and_report(journal(dsn, Path(directory), 100 if arguments.full else arguments.kills))


if __name__ == "__main__":
    asyncio.run(writer(*sys.argv[2:]) if sys.argv[1:2] == ["--writer"] else main())
