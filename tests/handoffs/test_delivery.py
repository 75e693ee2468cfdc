"""Delivery by processes that are killed at every step between the commit and the record of delivery."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from db import channels, notices
from db.pool import Database
from tests.db.seed import SeededAccount
from tests.handoffs.fixtures import HandoffEnvironment
from tests.handoffs.receivers import Answer, Receiver, receiver

ROOT = Path(__file__).parents[2]


@contextlib.asynccontextmanager
async def sending_process(dsn: str, port: int, step: str) -> AsyncIterator[Process]:
    """A process that sends up to a step; it is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.handoffs.delivery_process", dsn, str(port), step, stdout=PIPE, cwd=ROOT
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()


async def until_posted(hook: Receiver) -> None:
    async with asyncio.timeout(30):
        while not hook.posted:
            await asyncio.sleep(0.01)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("step", "arrivals"), [("claimed", 1), ("received", 2), ("answered", 2), ("recording", 2)]
)
async def test_killed_at_any_step_a_notice_still_arrives(
    database: Database, dsn: str, world: SeededAccount, env: HandoffEnvironment, step: str, arrivals: int
) -> None:
    """The next process sends it again with the same id; both attempts are recorded, the first as lost."""
    async with receiver() as hook:
        await channels.create(database, world.id, "slack", hook.url)
        handoff = await env.escalate()
        if step == "received":
            hook.answer = lambda _: Answer(after_s=3600)
        async with sending_process(dsn, hook.port, step) as killed:
            assert killed.stdout is not None
            if step == "received":
                await until_posted(hook)
            else:
                assert await asyncio.wait_for(killed.stdout.readline(), 30) == f"{step}\n".encode()
        hook.answer = lambda _: Answer()
        async with sending_process(dsn, hook.port, "none"), asyncio.timeout(30):
            [notice] = await notices.of_handoff(database, world.id, handoff.id)
            while notice.state != "sent":
                await asyncio.sleep(0.05)
                [notice] = await notices.of_handoff(database, world.id, handoff.id)

    attempts = await notices.attempts(database, world.id, notice.id)
    assert [one.outcome for one in attempts] == ["lost", "sent"]
    assert [one.headers["webhook-id"] for one in hook.posted] == [str(notice.id)] * arrivals
