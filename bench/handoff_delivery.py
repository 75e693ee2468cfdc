"""Whether every notice arrives although its sending process is killed repeatedly.

``python -m bench.handoff_delivery --notices 3000`` prints JSON: the number of kills and of notices that
arrived twice. It fails unless every notice arrived and is recorded as sent.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import signal
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from datetime import timedelta
from typing import Any

from cryptography.fernet import Fernet

from bench.handoff_setup import ROOT, fresh_server
from bench.report import run_and_report
from db import accounts, channels, outbox
from db.outbox import NoticeDraft
from db.pool import Database
from voicebot.clock import SystemClock
from voicebot.handoffs.webhook_sender import WebhookSender
from voicebot.outbox import Outbox, OutboxSettings
from voicebot.vault import Vault

SETTINGS = OutboxSettings(
    lease=timedelta(seconds=1), timeout_s=0.8, poll_s=0.05, first_pause=timedelta(milliseconds=50)
)


async def deliver(dsn: str, notices: int) -> dict[str, Any]:
    """Send ``notices`` webhooks by processes that are killed after a fraction of a second.

    Raises:
        AssertionError: a notice did not arrive, or is not recorded as sent.
    """
    database = await Database.connect(dsn)
    account = (await accounts.create(database, "Delivery")).id
    came: Counter[str] = Counter()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode().lower():
                fields = dict(line.split(": ", 1) for line in head.strip().split("\r\n")[1:])
                await reader.readexactly(int(fields["content-length"]))
                came[fields["webhook-id"]] += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    channel = await channels.create(database, account, "slack", f"http://127.0.0.1:{port}/")
    now = SystemClock().now()
    draft = NoticeDraft(medium="slack", message={"text": "help"}, at=now, channel_id=channel.id)
    ids = {str(id) for id in await outbox.put(database, account, [draft] * notices)}
    kills = await _killing(dsn, port, database)
    server.close()
    judge(came, ids)
    rows = await database.fetch("SELECT state, count(*) AS count FROM outbox GROUP BY state")
    assert {row["state"]: row["count"] for row in rows} == {"sent": notices}, rows
    attempts = await database.fetch("SELECT outcome, count(*) AS count FROM outbox_attempts GROUP BY outcome")
    await database.close()
    return {
        "notices": notices,
        "kills": kills,
        "arrived_again": sum(count - 1 for count in came.values()),
        "attempts": {row["outcome"]: row["count"] for row in attempts},
    }


def judge(came: Counter[str], ids: set[str]) -> None:
    """Check that every notice arrived at least once, and nothing else.

    Raises:
        AssertionError: a notice is missing, or an unknown one arrived.
    """
    assert not ids - set(came), f"{len(ids - set(came))} notices did not arrive"
    assert not set(came) - ids, f"{len(set(came) - ids)} arrived that nobody sent"


async def _killing(dsn: str, port: int, database: Database) -> int:
    chance, kills = random.Random(11), 0
    while True:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.handoff_delivery", "--sender", dsn, str(port), stdout=PIPE, cwd=ROOT
        )
        assert process.stdout is not None
        if await process.stdout.readline() != b"ready\n":
            # The process could not connect to the database of a busy machine; it counts as a kill.
            await process.wait()
        # The limit grows, so that the bench ends on a machine of any speed.
        await asyncio.sleep(chance.uniform(0.0, 0.4 + 0.05 * kills))
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()
        kills += 1
        [row] = await database.fetch("SELECT count(*) AS left FROM outbox WHERE state <> 'sent'")
        if not row["left"]:
            return kills


async def sender(dsn: str, port: str) -> None:
    """A process that sends until it is killed."""
    database = await Database.connect(dsn, max_size=8)
    webhooks = WebhookSender(
        database, Vault(Fernet.generate_key()), SystemClock(), allow=frozenset({f"127.0.0.1:{port}"})
    )
    print("ready", flush=True)
    await Outbox(database, SystemClock(), {"slack": webhooks}, SETTINGS).run()


async def main() -> None:
    """Measure on a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--notices", type=int, default=300)
    parser.add_argument("--full", action="store_true", help="3,000 notices")
    arguments = parser.parse_args()
    async with fresh_server() as dsn:
        await run_and_report(deliver(dsn, 3000 if arguments.full else arguments.notices))


if __name__ == "__main__":
    asyncio.run(sender(*sys.argv[2:]) if sys.argv[1:2] == ["--sender"] else main())
