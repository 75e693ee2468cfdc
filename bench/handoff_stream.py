"""Whether subscribers of the event stream get every event once, in order, and with what delay.

``python -m bench.handoff_stream`` runs two servers, commits events of two accounts, closes one subscriber's
connection at random, kills the servers' listeners, and prints JSON: the delay in ms from before the commit to
the arrival at two subscribers with open connections. It fails if an event is missing, repeated or foreign to
any of the three, or if p99 is not under 250 ms. ``--full``: 10,000 events, 200 closed connections.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx

from bench.handoff_setup import fresh_server, replica
from bench.report import percentiles, run_and_report
from db import accounts, handoff_events, keys
from db.notify import APPLICATION
from db.pool import Database

LIMIT_MS = 250.0


class Follower:
    """Reads the stream from one replica after the other; its connections are closed on purpose."""

    def __init__(self, urls: list[str], key: str, cut_every: int) -> None:
        """``cut_every``: about how many events a connection lasts; 0: it is not closed."""
        self._urls, self._key, self._cut_every = urls, key, cut_every
        self._chance = random.Random(2)
        self.received: list[tuple[int, str]] = []
        """The sequence number and the account of each event, in the order of arrival."""
        self.late_ms: list[float] = []
        self.connected = asyncio.Event()
        self.lines = 0

    @property
    def last(self) -> int:
        """The sequence number of the latest event."""
        return self.received[-1][0] if self.received else 0

    async def follow(self, until: int) -> None:
        """Read until event ``until`` has arrived."""
        while self.last < until:
            with contextlib.suppress(httpx.HTTPError):
                await self._read(until)

    async def _read(self, until: int) -> None:
        url = self._urls[self.lines % len(self._urls)]
        self.lines += 1
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Last-Event-ID": str(self.last),
        }
        left = self._chance.randint(1, 2 * self._cut_every) if self._cut_every else sys.maxsize
        async with (
            httpx.AsyncClient(timeout=httpx.Timeout(5, read=30)) as client,
            client.stream("GET", f"{url}/api/v1/handoffs/stream", headers=headers) as response,
        ):
            response.raise_for_status()
            self.connected.set()
            async for line in response.aiter_lines():
                if not line.startswith("data: "):
                    continue
                now = time.time()
                event = json.loads(line.removeprefix("data: "))
                self.received.append((event["seq"], event["data"]["account"]))
                self.late_ms.append((now - datetime.fromisoformat(event["at"]).timestamp()) * 1000)
                left -= 1
                if event["seq"] >= until or left <= 0:
                    return


async def stream(dsn: str, events: int, cuts: int, per_s: float) -> dict[str, Any]:
    """See the module.

    Raises:
        AssertionError: an event is missing, doubled or foreign.
    """
    database = await Database.connect(dsn)
    mine, theirs = [(await accounts.create(database, name)).id for name in ("Mine", "Theirs")]
    key = (await keys.create(database, mine, "viewer")).key
    async with contextlib.AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(replica(dsn)) for _ in range(2)]
        # A tenth more often, because the random choice may also close it less often.
        cut = Follower(urls, key, max(1, events * 10 // (cuts * 11)))
        standing = [Follower([url], key, 0) for url in urls]
        following = asyncio.gather(*(each.follow(events) for each in (cut, *standing)))
        await asyncio.gather(*(each.connected.wait() for each in (cut, *standing)))
        killing = asyncio.create_task(_kill_listeners(database))
        await asyncio.gather(
            _append_events(database, mine, events, per_s),
            _append_events(database, theirs, events // 4, per_s / 4),
        )
        await asyncio.wait_for(following, 60)
        killing.cancel()
    await database.close()
    for each in (cut, *standing):
        judge(each.received, mine, events)
    late = percentiles([one for each in standing for one in each.late_ms])
    assert late["p99"] < LIMIT_MS, f"p99 from commit to arrival: {late}"
    return {"events": events, "cuts": cut.lines - 1, "late_ms": late}


def judge(received: Sequence[tuple[int, str]], account: UUID, events: int) -> None:
    """Check that the received events are all events of an account, once, in order.

    Raises:
        AssertionError: an event is missing, doubled, out of order or another account's.
    """
    foreign = [seq for seq, whose in received if whose != str(account)]
    assert not foreign, f"foreign: {foreign[:5]}"
    seqs = [seq for seq, _ in received]
    missing = sorted(set(range(1, events + 1)) - set(seqs))
    assert not missing, f"missing: {missing[:5]}"
    assert len(seqs) == events, f"doubled: {len(seqs) - events}"
    assert seqs == sorted(seqs), "out of order"


async def _append_events(database: Database, account: UUID, count: int, per_s: float) -> None:
    began = time.perf_counter()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / per_s - time.perf_counter()))
        async with database.transaction() as transaction:
            data = {"account": str(account)}
            await handoff_events.append(transaction, account, "handoff.offered", datetime.now(UTC), data=data)


async def _kill_listeners(database: Database) -> None:
    while True:
        await asyncio.sleep(5)
        await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", APPLICATION
        )


async def main() -> None:
    """Measure on a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--per-s", type=float, default=150)
    parser.add_argument("--full", action="store_true", help="10,000 events, 200 cuts")
    arguments = parser.parse_args()
    events, cuts = (10_000, 200) if arguments.full else (arguments.events, arguments.cuts)
    async with fresh_server() as dsn:
        await run_and_report(stream(dsn, events, cuts, arguments.per_s))


if __name__ == "__main__":
    asyncio.run(main())
