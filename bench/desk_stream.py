"""Whether a follower of the desk hears everything, once, in order, and how soon.

``python -m bench.desk_stream --events 10000 --cuts 200`` runs two servers, commits to two accounts, cuts the
follower's line and kills the servers' listeners at random, and prints JSON: lateness from commit to arrival
in ms (of events that came over a standing line). It fails if an event is missing, doubled or foreign.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx

from bench.desk_world import fresh_server, replica
from bench.verdict import judged
from db import accounts, desk_events, keys
from db.desk_events import DeskEvent
from db.pool import Database
from db.wakes import APPLICATION


class Follower:
    """Reads the stream from one replica after the other, and is cut off on purpose."""

    def __init__(self, urls: list[str], key: str, cut_every: int) -> None:
        self._urls, self._key, self._cut_every = urls, key, cut_every
        self._chance = random.Random(2)
        self.seqs: list[int] = []
        self.late_ms: list[float] = []
        self.lines = 0

    async def follow(self, until: int) -> None:
        """Read until the event ``until`` has come."""
        while not self.seqs or self.seqs[-1] < until:
            with contextlib.suppress(httpx.HTTPError):
                await self._read(until)

    async def _read(self, until: int) -> None:
        url = self._urls[self.lines % len(self._urls)]
        self.lines += 1
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Last-Event-ID": str(self.seqs[-1] if self.seqs else 0),
        }
        left, opened = self._chance.randint(1, 2 * self._cut_every), time.time()
        async with (
            httpx.AsyncClient(timeout=httpx.Timeout(5, read=30)) as client,
            client.stream("GET", f"{url}/api/v1/handoffs/stream", headers=headers) as response,
        ):
            response.raise_for_status()
            async for line in response.aiter_lines():
                if not line.startswith("data: "):
                    continue
                now = time.time()
                event = json.loads(line.removeprefix("data: "))
                self.seqs.append(event["seq"])
                committed = datetime.fromisoformat(event["at"]).timestamp()
                if committed > opened + 0.5:
                    self.late_ms.append((now - committed) * 1000)
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
        follower = Follower(urls, key, max(1, events // cuts))
        following = asyncio.create_task(follower.follow(events))
        killing = asyncio.create_task(_kill_listeners(database))
        await asyncio.gather(
            _tell(database, mine, events, per_s), _tell(database, theirs, events // 4, per_s / 4)
        )
        await asyncio.wait_for(following, 60)
        killing.cancel()
    await database.close()
    assert follower.seqs == list(range(1, events + 1)), "missing, doubled or out of order"
    late = sorted(follower.late_ms)
    return {
        "events": events,
        "lines": follower.lines,
        "measured": len(late),
        **{f"p{share}_ms": round(late[int(len(late) * share / 100)], 1) for share in (50, 95, 99)},
        "worst_ms": round(late[-1], 1),
    }


async def _tell(database: Database, account: UUID, count: int, per_s: float) -> None:
    began = time.perf_counter()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / per_s - time.perf_counter()))
        async with database.transaction() as transaction:
            event = DeskEvent(type="handoff.offered", at=datetime.now(UTC), data={"account": str(account)})
            await desk_events.append(transaction, account, event)


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
        await judged(stream(dsn, events, cuts, arguments.per_s))


if __name__ == "__main__":
    asyncio.run(main())
