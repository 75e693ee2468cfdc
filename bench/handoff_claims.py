"""Races for handoffs: claims from two processes, and claims against a hang-up.

``python -m bench.handoff_claims --rounds 100 --claims 1000`` prints JSON and fails unless every round has one
winner, every operator's counter agrees, and every hang-up leaves one end state.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from asyncio.subprocess import PIPE, Process
from typing import Any
from uuid import UUID

from bench.handoff_setup import ROOT, account_with_calls, fresh_server, ringing_call
from bench.report import run_and_report
from db import accounts, calls, handoffs, operators, users
from db.calls import CallEnd
from db.errors import DatabaseUnavailable
from db.handoffs import HandoffDraft
from db.pool import Database
from db.users import UserDraft
from voicebot.clock import SystemClock
from voicebot.handoffs.handoff_service import HandoffService
from voicebot.handoffs.presence import PresenceService
from voicebot.handoffs.scheduler import Scheduler
from voicebot.handoffs.transitions import AlreadyClaimed, IllegalTransition

PEOPLE = 50


async def races(dsn: str, rounds: int, claims: int) -> dict[str, Any]:
    """Have two processes claim the same handoff ``claims`` times at once, ``rounds`` times.

    Raises:
        AssertionError: a round had not one winner, a loser did not get its id, or a counter is wrong.
    """
    database = await Database.connect(dsn)
    account = (await accounts.create(database, "Races")).id
    service = HandoffService(database, SystemClock())
    people = [
        (await users.create(database, account, UserDraft(name=f"p{n}", role="operator"))).id
        for n in range(PEOPLE)
    ]
    processes = [await _start(dsn, account, people, claims // 2) for _ in range(2)]
    took = []
    try:
        for _ in range(rounds):
            draft = _draft()
            handoff = (await service.create(account, draft)).handoff
            began = time.perf_counter()
            answers = await asyncio.gather(*(_ask(process, handoff.id) for process in processes))
            took.append(time.perf_counter() - began)
            await _check(database, account, handoff.id, answers, claims)
            holder = (await handoffs.get(database, account, handoff.id)).claimed_by
            assert holder is not None
            await service.resolve(account, handoff.id, holder, resolution="done")
        held = [(await operators.ensure(database, account, one)).holding for one in people]
        assert sum(held) == 0, held
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()
        await database.close()
    return {"rounds": rounds, "claims": claims, "claims_per_s": round(rounds * claims / sum(took))}


def _draft(call_id: UUID | None = None) -> HandoffDraft:
    now = SystemClock().now()
    return HandoffDraft(intent="escalate", origin="model", reason="race", call_id=call_id, created_at=now)


async def _check(
    database: Database, account: UUID, handoff_id: UUID, answers: list[dict[str, Any]], claims: int
) -> None:
    now = await handoffs.get(database, account, handoff_id)
    winners = {winner for answer in answers for winner in answer["won"]}
    received = {holder for answer in answers for holder in answer["lost_to"]}
    assert winners == {str(now.claimed_by)}, winners
    assert received <= winners, received
    assert sum(answer["count"] for answer in answers) == claims
    assert now.epoch == 1


async def hang_ups(dsn: str, interleavings: int) -> dict[str, Any]:
    """Race claims against hang-ups, ``interleavings`` times.

    Raises:
        AssertionError: a waiting handoff did not end once, or a claim was lost or not ended.
    """
    database = await Database.connect(dsn, max_size=20)
    clock = SystemClock()
    service, presence = HandoffService(database, clock), PresenceService(database, clock)
    scheduler = Scheduler(database, clock, service, presence)
    account, number = await account_with_calls(database)
    chance, claimed = random.Random(5), 0
    for _ in range(interleavings):
        user = (await users.create(database, account, UserDraft(name="p", role="operator"))).id
        call = await ringing_call(database, number)
        draft = _draft(call)
        handoff = (await service.create(account, draft)).handoff

        async def hang_up(call: UUID = call) -> None:
            await asyncio.sleep(chance.uniform(0, 0.004))
            end = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=clock.now())
            await calls.finish(database, account, call, end)
            await scheduler.run_once()

        async def claim(handoff_id: UUID = handoff.id, user: UUID = user) -> bool:
            await asyncio.sleep(chance.uniform(0, 0.01))
            try:
                await service.claim(account, handoff_id, user)
            except (IllegalTransition, AlreadyClaimed):
                return False
            return True

        _, won = await asyncio.gather(hang_up(), claim())
        claimed += won
        await scheduler.run_once()
        now = await handoffs.get(database, account, handoff.id)
        assert now.state == ("claimed" if won else "abandoned"), now.state
        if won:
            await service.resolve(account, handoff.id, user, resolution="rang back")
        assert (await operators.ensure(database, account, user)).holding == 0
    rows = await database.fetch(
        "SELECT count(*) AS ends FROM handoff_events WHERE account_id = $1 AND type = 'handoff.abandoned'",
        account,
    )
    assert rows[0]["ends"] == interleavings - claimed
    await database.close()
    return {"interleavings": interleavings, "claimed_first": claimed}


async def _start(dsn: str, account: UUID, people: list[UUID], claims: int) -> Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.handoff_claims", "--claimer", dsn, str(account), str(claims),
        ",".join(map(str, people)), stdin=PIPE, stdout=PIPE, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def _ask(process: Process, handoff_id: UUID) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{handoff_id}\n".encode())
    answer: dict[str, Any] = json.loads(await process.stdout.readline())
    return answer


async def claimer(dsn: str, account: str, claims: str, people: str) -> None:
    """A process that claims every handoff whose id it reads, for all users at once."""
    database = await Database.connect(dsn, min_size=10, max_size=10)
    service = HandoffService(database, SystemClock())
    who = [UUID(one) for one in people.split(",")]
    room = asyncio.Semaphore(20)  # as many as a server's pool serves well

    async def claim(handoff_id: UUID, user: UUID) -> tuple[str, str]:
        async with room:
            while True:
                try:
                    await service.claim(UUID(account), handoff_id, user)
                except AlreadyClaimed as lost:
                    return "lost", str(lost.claimed_by)
                except DatabaseUnavailable:
                    continue  # a busy machine: the client tries again
                return "won", str(user)

    print("ready", flush=True)
    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        handoff_id = UUID(line)
        answers = await asyncio.gather(*(claim(handoff_id, who[n % len(who)]) for n in range(int(claims))))
        won = sorted({who for what, who in answers if what == "won"})
        lost_to = sorted({who for what, who in answers if what == "lost"})
        print(json.dumps({"won": won, "lost_to": lost_to, "count": len(answers)}), flush=True)
    await database.close()


async def _all(dsn: str, wanted: argparse.Namespace) -> dict[str, Any]:
    rounds, claims, interleavings = wanted.rounds, wanted.claims, wanted.hang_ups
    if wanted.full:
        rounds, claims, interleavings = 100, 1000, 1000
    return {"races": await races(dsn, rounds, claims), "hang_ups": await hang_ups(dsn, interleavings)}


async def main() -> None:
    """Measure on a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--claims", type=int, default=1000)
    parser.add_argument("--hang-ups", type=int, default=100)
    parser.add_argument("--full", action="store_true", help="100 rounds of 1,000 claims, 1,000 hang-ups")
    arguments = parser.parse_args()
    async with fresh_server() as dsn:
        await run_and_report(_all(dsn, arguments))


if __name__ == "__main__":
    asyncio.run(claimer(*sys.argv[2:]) if sys.argv[1:2] == ["--claimer"] else main())
