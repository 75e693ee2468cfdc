"""Outbound dialling: promises under `kill -9`, lateness, fairness, and the cost of claims.

``python -m bench.dispatch`` starts a PostgreSQL server, dispatcher processes and a scripted carrier, and
prints JSON:

- ``campaign``: leads of one account while processes are killed. No attempt is dialled twice, nobody is
  called twice at once, no person more often than the rate limit allows, no dial is outside its window, no
  number has more calls than channels, and no channel stays taken. ``dials_per_s`` leaves out the first and
  the last tenth; ``fairness`` is when ten leads of another account, added meanwhile, had been dialled.
- ``lateness``: from the due time of a lead to the carrier, in ms, beside the same dispatcher that polls.
- ``claims``: leads claimed per second by one connection from many due leads, beside a queue of jobs that
  takes one row at a time with ``FOR UPDATE SKIP LOCKED``; and the time of a claim while no lead is due.

``--full`` uses 100,000 leads and three processes, a loop that polls every 30 s, and 1,000,000 leads for the
claims.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.dispatch_carrier import Dial, Script, ScriptedCarrier
from bench.dispatch_setup import BATCH, Campaign, add_leads, campaign, template
from bench.handoff_setup import ROOT, fresh_server
from bench.report import percentiles, run_and_report
from db import call_leases, dispatch
from db.ids import new_id
from db.pool import Database
from voicebot.clock import SystemClock

NUMBERS = 10
CHANNELS = 40
RATE = {"calls": 2, "per_ms": 3_600_000}
SEVERAL = "+1213"
"""People of whom each has four leads."""

RECLAIM_S = 30
FEW = 10
"""Leads of the other account."""


@contextlib.asynccontextmanager
async def dispatchers(
    dsn: str, port: int, count: int, poll_s: str = "", root: Path = ROOT
) -> AsyncIterator[list[Process]]:
    """Processes that dial; the list may be changed, and what is in it is killed at the end."""
    running = [await started(dsn, port, poll_s, root) for _ in range(count)]
    try:
        yield running
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def started(dsn: str, port: int, poll_s: str = "", root: Path = ROOT) -> Process:
    """One process that dials, of the checkout ``root``."""
    command = ("-m", "bench.dispatch_process", dsn, str(port), *([poll_s] if poll_s else []))
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=PIPE, cwd=root)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


@contextlib.asynccontextmanager
async def serving(
    database: Database, channels: int = CHANNELS, script: Script | None = None
) -> AsyncIterator[tuple[ScriptedCarrier, int]]:
    """A scripted carrier and its port."""
    carrier = ScriptedCarrier(database, channels, script or Script())
    server = await asyncio.start_server(carrier.serve, "127.0.0.1", 0)
    async with server:
        yield carrier, server.sockets[0].getsockname()[1]
        await carrier.background.finish(30)


async def left(database: Database) -> list[str]:
    """The states of leads that are not over, apart from those whose window or rate limit is closed."""
    rows = await database.fetch(
        """
        SELECT concat_ws(' ', lead.status, waits_for, next_attempt_at - now(), attempts, call.status,
            call.end_reason) AS state
        FROM leads lead LEFT JOIN calls call ON call.lead_id = lead.id AND call.finalised_at IS NULL
        WHERE lead.status <> 'finished' AND (waits_for IS NULL OR waits_for NOT IN ('window', 'rate_limit'))
        LIMIT 5
        """
    )
    return [row["state"] for row in rows]


async def run_campaign(dsn: str, leads: int, processes: int, kill_every_s: float) -> dict[str, Any]:
    """Dial all leads of one account while processes are killed.

    Raises:
        AssertionError: a promise was broken.
    """
    database, clock = await Database.connect(dsn), SystemClock()
    many = await campaign(
        database, "Many", 2_000_000, NUMBERS, CHANNELS, rate_limit=RATE, max_attempts=3,
        retry={"busy": 1000, "no_answer": 1000, "failed": 1000},
    )  # fmt: skip
    few = await campaign(database, "Few", 3_000_000, 1, CHANNELS, max_attempts=1)
    closed = await closed_campaign(database, many)
    # Of a tenth of the leads, every person has four, which is more than the rate limit allows.
    await add_leads(database, many, leads * 9 // 10, at=clock.now())
    await add_leads(database, many, leads // 10, at=clock.now(), area=213, leads_per_person=4)
    await add_leads(database, closed, max(leads // 100, 10), at=clock.now(), area=214)
    killed: list[Process] = []
    async with serving(database) as (carrier, port), dispatchers(dsn, port, processes) as running:
        killing = asyncio.create_task(kill(dsn, port, running, killed, kill_every_s))
        began, added_at = time.perf_counter(), None
        while waiting := await left(database):
            assert time.perf_counter() - began < 120 + leads / 10, f"not over: {waiting}"
            await asyncio.sleep(0.2)
            await call_leases.end_expired(database, limit=100)  # as every server does
            if added_at is None and len(carrier.dials) > leads // 10:
                added_at = clock.now()
                await add_leads(database, few, FEW, at=added_at, area=215)
        took = time.perf_counter() - began
        killing.cancel()
        dials = list(carrier.dials)
        assert added_at is not None, "the other account's leads were never added"
        fair = [(each.at - added_at) / timedelta(milliseconds=1) for each in dials if "+1215" in each.to]
        assert len({each.to for each in dials if "+1215" in each.to}) == FEW
        reclaimed = await check(database, carrier)
    await database.close()
    return {
        "leads": leads, "processes": processes, "kills": len(killed), "dials": len(dials),
        "seconds": round(took), "dials_per_s": round(middle_rate(dials), 1),
        "reclaimed_after_s_max": reclaimed,
        "fairness": {"leads": FEW, "dialled_after_ms_max": round(max(fair))},
    }  # fmt: skip


def middle_rate(dials: list[Dial]) -> float:
    """Dials a second, without the first and the last tenth."""
    tenth = len(dials) // 10
    middle = dials[tenth : len(dials) - tenth]
    return len(middle) / (middle[-1].at - middle[0].at).total_seconds()


async def kill(dsn: str, port: int, running: list[Process], killed: list[Process], every_s: float) -> None:
    """Kill the oldest process every few seconds, and start another one."""
    while True:
        await asyncio.sleep(every_s)
        killed.append(running.pop(0))
        killed[-1].send_signal(signal.SIGKILL)
        await killed[-1].wait()
        running.append(await started(dsn, port))


async def closed_campaign(database: Database, of: Campaign) -> Campaign:
    """A template of the same account and numbers whose window is closed for the next hours."""
    at = SystemClock().now() + timedelta(hours=6)
    window = {"from": f"{at.hour:02}:00", "to": f"{at.hour + 1:02}:00"}
    made = await template(database, of.account_id, {"window": window})
    return Campaign(account_id=of.account_id, number_ids=of.number_ids, template_id=made)


async def check(database: Database, carrier: ScriptedCarrier) -> float:
    """The longest time for which the channel of a lost attempt was taken, in s.

    Raises:
        AssertionError: a promise was broken.
    """
    assert not carrier.faults, carrier.faults[:5]
    assert carrier.repeated() == 0, "an attempt was dialled twice"
    assert not [each for each in carrier.dials if "+1214" in each.to], "a dial outside its window"
    calls = Counter(each.to for each in carrier.dials if each.to.startswith(SEVERAL))
    assert max(calls.values()) <= RATE["calls"], "the rate limit of a person was exceeded"
    row = await database.fetchrow(
        """
        SELECT count(*) FILTER (WHERE status <> 'ended') AS live,
            extract(epoch FROM max(ended_at - started_at)
                FILTER (WHERE end_reason = 'never_connected' AND carrier_call_id IS NULL)) AS lost_s
        FROM calls
        """
    )
    assert row is not None
    assert row["live"] == 0, "a channel is still taken"
    reclaimed = float(row["lost_s"] or 0)
    assert reclaimed <= RECLAIM_S, f"a channel was reclaimed after {reclaimed} s"
    return round(reclaimed, 1)


async def run_lateness(dsn: str, leads: int, processes: int, poll_s: str = "") -> dict[str, Any]:
    """How late leads are dialled that become due one after the other, five a second."""
    database, clock = await Database.connect(dsn), SystemClock()
    account = await campaign(database, "Late", 4_000_000 if poll_s else 5_000_000, NUMBERS, CHANNELS)
    async with serving(database) as (carrier, port), dispatchers(dsn, port, processes, poll_s):
        first = clock.now() + timedelta(seconds=1)
        await add_leads(database, account, leads, at=first, over_s=leads / 5, area=216)
        async with asyncio.timeout(60 + 3 * leads):
            while len(carrier.dials) < leads:  # noqa: ASYNC110 - the bench looks at it from outside
                await asyncio.sleep(0.1)
        dialled = {each.call_id: each.at for each in carrier.dials}
        rows = await database.fetch(
            "SELECT call.id, lead.earliest_at FROM calls call JOIN leads lead ON lead.id = call.lead_id"
            " WHERE lead.attempts = 1 AND call.account_id = $1",
            account.account_id,
        )
        late = [(dialled[row["id"]] - row["earliest_at"]) / timedelta(milliseconds=1) for row in rows]
    await database.close()
    return percentiles(late)


async def run_claims(dsn: str, leads: int, seconds: float) -> dict[str, Any]:
    """How many of many due leads one connection claims per second, and how many of a queue of jobs."""
    database, clock = await Database.connect(dsn, max_size=2), SystemClock()
    account = await campaign(database, "Claims", 6_000_000, NUMBERS, 1000)
    await add_leads(database, account, leads, at=clock.now() - timedelta(days=1), area=217)
    await database.execute("ANALYZE leads")
    claimed, statements, began = 0, 0, time.perf_counter()
    while time.perf_counter() - began < seconds and claimed < leads:
        found = await dispatch.claim(
            database, now=clock.now(), lease=timedelta(hours=1), limit=32, per_account=32
        )
        assert found, "due leads were not claimed"
        claimed, statements = claimed + len(found), statements + 1
    ours = claimed / (time.perf_counter() - began)
    jobs = await _jobs(database, leads, seconds)
    later = []
    for _ in range(20):
        start = time.perf_counter()
        before = clock.now() - timedelta(days=2)
        none = await dispatch.claim(database, now=before, lease=timedelta(0), limit=32, per_account=32)
        later.append((time.perf_counter() - start) * 1000)
        assert not none
    await database.close()
    return {
        "leads": leads, "claimed_per_s": round(ours), "row_by_row_per_s": round(jobs),
        "ratio": round(ours / jobs, 1), "ms_per_claim_of_32": round(seconds * 1000 / statements, 1),
        "ms_per_claim_when_none_is_due": percentiles(later),
    }  # fmt: skip


async def _jobs(database: Database, count: int, seconds: float) -> float:
    """Jobs per second of a plain queue: a table of jobs, of which each statement takes one."""
    await database.execute(
        "CREATE TABLE bench_jobs (id uuid PRIMARY KEY, due timestamptz NOT NULL, taken_by uuid)"
    )
    for _ in range(0, count, BATCH):
        await database.execute(
            """
            INSERT INTO bench_jobs SELECT gen_random_uuid(), now() - interval '1 day'
            FROM generate_series(1, $1::int)
            """,
            BATCH,
        )
    await database.execute("CREATE INDEX bench_jobs_due ON bench_jobs (due, id) WHERE taken_by IS NULL")
    await database.execute("ANALYZE bench_jobs")
    taken, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds and taken < count:
        taken += await database.execute(
            """
            UPDATE bench_jobs SET taken_by = $1 WHERE id = (
                SELECT id FROM bench_jobs WHERE taken_by IS NULL AND due <= now()
                ORDER BY due, id LIMIT 1 FOR UPDATE SKIP LOCKED)
            """,
            new_id(),
        )
    took = time.perf_counter() - began
    await database.execute("DROP TABLE bench_jobs")
    return taken / took


async def _all(wanted: argparse.Namespace) -> dict[str, Any]:
    leads, processes, sizes, poll_s = wanted.leads, wanted.processes, [wanted.claims], wanted.poll
    if wanted.full:
        leads, processes, sizes, poll_s = 100_000, 3, [100_000, 1_000_000], 30
    figures: dict[str, Any] = {}
    async with fresh_server() as dsn:
        figures["campaign"] = await run_campaign(dsn, leads, processes, wanted.kill_every)
        print(figures, file=sys.stderr)
    async with fresh_server() as dsn:
        woken = await run_lateness(dsn, wanted.late, processes)
    async with fresh_server() as dsn:
        polling = await run_lateness(dsn, wanted.late, processes, str(poll_s))
    figures["lateness"] = {"ms": woken, f"polling_every_{poll_s}_s": polling}
    print(figures["lateness"], file=sys.stderr)
    figures["claims"] = []
    for size in sizes:
        async with fresh_server() as dsn:
            figures["claims"].append(await run_claims(dsn, size, wanted.seconds))
    return figures


async def main() -> None:
    """Measure on servers of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--leads", type=int, default=1000, help="of the campaign")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kill-every", type=float, default=4, help="seconds between two kills")
    parser.add_argument("--late", type=int, default=50, help="leads whose lateness is measured")
    parser.add_argument("--poll", type=int, default=5, help="seconds between two looks of the polling loop")
    parser.add_argument("--claims", type=int, default=100_000, help="due leads of which claims are measured")
    parser.add_argument("--seconds", type=float, default=5, help="how long claims are measured")
    parser.add_argument("--full", action="store_true")
    await run_and_report(_all(parser.parse_args()))


if __name__ == "__main__":
    asyncio.run(main())
