"""The background jobs of handoffs: they ask the database for nothing while there is nothing to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from prometheus_client import CollectorRegistry

from db import channels, handoffs, operators, outbox
from db.outbox import NoticeDraft
from tests.db.seed import SeededAccount
from tests.handoffs.exchange import make_world
from tests.handoffs.fixtures import HandoffEnvironment
from tests.handoffs.test_journal import KEYS, append_events, lines
from tests.handoffs.test_journal_security import NoCalls
from voicebot import availability
from voicebot.handoffs import handoff_runtime
from voicebot.handoffs.bridge import RING_DEADLINE
from voicebot.handoffs.handoff_runtime import HandoffDependencies, HandoffRuntime
from voicebot.vault import Vault

LOOKS = 30
"""With the interval below, they take longer than any job has ever waited between two statements."""


class Jobs:
    """The jobs of one process, which gets no notifications, and their statements."""

    def __init__(self, env: HandoffEnvironment, world: SeededAccount, directory: Path) -> None:
        self.env = env
        self.world = world
        self.directory = directory
        self.statements: list[str] = []

    async def rest(self) -> None:
        """Wait until they only ask whether there is work."""
        await until(self._only_looks)

    async def _only_looks(self) -> bool:
        last = self.statements[-LOOKS:]
        return len(last) == LOOKS and all("AS notices" in statement for statement in last)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await true():
            await asyncio.sleep(0.01)


@pytest.fixture
async def jobs(
    env: HandoffEnvironment, world: SeededAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Jobs]:
    """Jobs that rest, and look for work at short intervals."""
    made = Jobs(env, world, tmp_path)

    def recorded(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        def record(query: str, *arguments: object) -> Awaitable[Any]:
            made.statements.append(query)
            return method(query, *arguments)

        return record

    async def deaf(*_: object) -> None:
        await asyncio.Event().wait()

    for name in ("execute", "fetch", "fetchrow"):
        monkeypatch.setattr(env.database, name, recorded(getattr(env.database, name)))
    monkeypatch.setattr(handoff_runtime, "LOOK_S", 0.05)
    monkeypatch.setattr("voicebot.handoffs.queue_metrics.INTERVAL_S", 3600)
    monkeypatch.setattr("db.notify.listen", deaf)
    dependencies = HandoffDependencies(
        vault=Vault(Fernet.generate_key()), journal=tmp_path, journal_keys=KEYS, registry=CollectorRegistry()
    )
    runtime = HandoffRuntime(env.database, env.clock, dependencies)
    runtime.start(lambda: False, NoCalls())
    try:
        await made.rest()
        yield made
    finally:
        await runtime.stop()


async def offered(jobs: Jobs) -> Callable[[], Awaitable[bool]]:
    """A handoff that another process has created."""
    await jobs.env.operator()
    made = await jobs.env.escalate()

    async def is_offered() -> bool:
        return (await handoffs.get(jobs.env.database, jobs.env.account_id, made.id)).state == "offered"

    return is_offered


async def silent(jobs: Jobs) -> Callable[[], Awaitable[bool]]:
    """An operator of whom nothing is heard any more."""
    user_id = await jobs.env.operator()
    jobs.env.clock.advance(seconds=availability.OFFLINE_AFTER.total_seconds() + 1)

    async def is_signed_off() -> bool:
        found = await operators.ensure(jobs.env.database, jobs.env.account_id, user_id)
        return not found.signed_on

    return is_signed_off


async def unanswered(jobs: Jobs) -> Callable[[], Awaitable[bool]]:
    """The telephone of an operator that rings too long, at another process that has died."""
    world = await make_world(jobs.env, jobs.world, jobs.env.clock)
    line = await world.ringing()
    jobs.env.clock.advance(seconds=RING_DEADLINE.total_seconds() + 1)

    async def has_ended() -> bool:
        return (await world.leg(line)).ended_at is not None

    return has_ended


async def noticed(jobs: Jobs) -> Callable[[], Awaitable[bool]]:
    """A notice that another process has written."""
    database, account_id = jobs.env.database, jobs.env.account_id
    channel = await channels.create(database, account_id, "slack", "https://127.0.0.1:1/")
    draft = NoticeDraft(
        medium="slack", message={"text": "news"}, at=jobs.env.clock.now(), channel_id=channel.id
    )
    [notice_id] = await outbox.put(database, account_id, [draft])

    async def was_tried() -> bool:
        return await database.execute("SELECT FROM outbox WHERE id = $1 AND attempts > 0", notice_id) == 1

    return was_tried


async def journaled(jobs: Jobs) -> Callable[[], Awaitable[bool]]:
    """An event that another process has committed."""
    await append_events(jobs.env.database, jobs.world, 1)

    async def is_written() -> bool:
        return len(lines(jobs.directory)) == 1

    return is_written


@pytest.mark.parametrize("arises", [offered, silent, unanswered, noticed, journaled])
async def test_work_is_found_without_a_notification(
    jobs: Jobs, arises: Callable[[Jobs], Awaitable[Callable[[], Awaitable[bool]]]]
) -> None:
    """Jobs without work only ask whether there is any, and do what becomes due although nobody told them."""
    is_done = await arises(jobs)
    await until(is_done)
