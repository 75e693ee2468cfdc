"""Dials a second, and the CPU time of a dial: ``python -m bench.dispatch_costs [--checkout DIRECTORY]``.

- ``decisions``: leads that pass everything up to the request to the carrier, which answers at once. Nothing
  is reported of the calls, and all numbers together have a channel for each lead.
- ``whole``: the same leads with a carrier that answers after 20 ms, busy lines, answers, ends, finalisation.

Nothing is killed. ``cpu_ms`` is the CPU time of a dial: of the dispatchers, of PostgreSQL, and of this
process, which is the carrier. In ``whole`` PostgreSQL's includes what the carrier reports, which is the work
of the server that has the call. ``per_s`` leaves out the first and the last tenth.

``--checkout`` runs the dispatchers of another checkout as well, each in turn ``--rounds`` times, on its own
tables, which must have what the carrier of this checkout reads and writes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.dispatch import dispatchers, left, middle_rate, serving
from bench.dispatch_carrier import Script
from bench.dispatch_setup import add_leads, campaign
from bench.handoff_setup import ROOT, fresh_server
from bench.report import run_and_report
from db.pool import Database
from voicebot.clock import SystemClock

CHANNELS = 1000
"""Of a number; the most it can have."""

TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")

SCRIPTS: Mapping[str, Script] = {"decisions": Script(answer_s=0, reports=False), "whole": Script()}


async def run(dsn: str, root: Path, kind: str, leads: int, processes: int) -> dict[str, Any]:
    """Dial all leads by dispatchers of a checkout."""
    database, clock = await Database.connect(dsn), SystemClock()
    account = await campaign(database, "Costs", 2_000_000, -(-leads // CHANNELS), CHANNELS, max_attempts=1)
    await add_leads(database, account, leads, at=clock.now(), area=212)
    for table in ("leads", "calls"):
        await database.execute(f"VACUUM ANALYZE {table}")
    row = await database.fetchrow("SELECT pg_backend_pid() AS pid")
    assert row is not None
    server = _fields(row["pid"])[1]
    async with (
        serving(database, CHANNELS, SCRIPTS[kind]) as (carrier, port),
        dispatchers(dsn, port, processes, root=root) as running,
    ):
        before = _cpu_ms([process.pid for process in running], server)
        began = time.perf_counter()
        while len(carrier.dials) < leads or (kind == "whole" and await left(database)):
            assert time.perf_counter() - began < 60 + leads / 10, "not over"
            await asyncio.sleep(0.1)
        after = _cpu_ms([process.pid for process in running], server)
        assert not carrier.faults, carrier.faults[:5]
        assert len(carrier.dials) == leads, "a lead was dialled twice"
    await database.close()
    cpu = {name: round((after[name] - before[name]) / leads, 2) for name in after}
    return {"per_s": round(middle_rate(carrier.dials)), "cpu_ms": {**cpu, "all": round(sum(cpu.values()), 2)}}


def _cpu_ms(dispatchers: list[int], server: int) -> dict[str, float]:
    """The CPU time so far of dispatchers, of a PostgreSQL server with all its processes, and of this one."""
    children = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    ticks = sum(sum(fields[2:4]) for pid in children if (fields := _fields(pid))[1] == server)
    return {
        "dispatchers": TICK_MS * sum(sum(_fields(pid)[2:4]) for pid in dispatchers),
        "postgresql": TICK_MS * (ticks + sum(_fields(server)[2:])),
        "carrier": time.process_time() * 1000,
    }


def _fields(pid: int) -> list[int]:
    """Of a process: its id, its parent's, and its CPU time: own user, own system, and both of ended children.

    Zeros if it has ended.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return [0] * 6
    fields = stat.rpartition(")")[2].split()
    return [pid, int(fields[1]), *(int(field) for field in fields[11:15])]


async def _all(wanted: argparse.Namespace) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    roots = [ROOT, *([wanted.checkout.resolve()] if wanted.checkout else [])]
    for _ in range(wanted.rounds):
        for kind in SCRIPTS:
            for root in roots:
                async with fresh_server(root) as dsn:
                    found = await run(dsn, root, kind, wanted.leads, wanted.processes)
                figures.setdefault(kind, {}).setdefault(str(root), []).append(found)
    return figures


async def main() -> None:
    """Measure on servers of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--leads", type=int, default=3000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--checkout", type=Path, help="whose dispatchers are measured beside this one's")
    await run_and_report(_all(parser.parse_args()))


if __name__ == "__main__":
    asyncio.run(main())
