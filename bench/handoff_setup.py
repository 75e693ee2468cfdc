"""Shared by the handoff benches: a database, servers in processes, an account with calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType
from uuid import UUID

from db import accounts, inbound, numbers, templates
from db.embedded import EmbeddedServer
from db.ids import new_id
from db.inbound import InboundCall
from db.migrate import migrate, migrations
from db.numbers import NumberDraft
from db.pool import Database
from db.templates import TemplateDraft
from voicebot.clock import SystemClock

ROOT = Path(__file__).parents[1]


@contextlib.asynccontextmanager
async def fresh_server(root: Path = ROOT) -> AsyncIterator[str]:
    """A database server of the bench's own, with the tables of a checkout; its DSN."""
    with tempfile.TemporaryDirectory() as directory:
        async with EmbeddedServer(Path(directory)) as dsn:
            await migrate(dsn, migrations(root / "db" / "migrations"))
            yield dsn


@contextlib.asynccontextmanager
async def replica(dsn: str, more: Mapping[str, str] = MappingProxyType({})) -> AsyncIterator[str]:
    """A server in a process of its own; its address. ``more``: of its environment."""
    with tempfile.TemporaryDirectory() as directory:
        environment = {
            **os.environ,
            "DATABASE_URL": dsn,
            "VOICEBOT_DATA_DIR": directory,
            "VOICEBOT_PORT": "0",
            "VOICEBOT_SECRET_KEY": "bench" * 8,
            "VOICEBOT_DRAIN_TIMEOUT_MS": "0",
            **more,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "voicebot", "serve", stdout=PIPE, env=environment, cwd=ROOT
        )
        assert process.stdout is not None
        try:
            yield json.loads(await process.stdout.readline())["url"]
        finally:
            process.terminate()
            await process.wait()


async def account_with_calls(database: Database) -> tuple[UUID, str]:
    """An account, and its number that is answered."""
    account = (await accounts.create(database, "Calls")).id
    e164 = f"+1415{random.randint(2_000_000, 9_999_999)}"
    number = await numbers.create(database, account, NumberDraft(e164=e164, carrier="twilio"))
    content = {"name": "front", "prompt": "You answer."}
    draft = TemplateDraft(
        name="front", kind="orchestrator", status="active", number_id=number.id, content=content
    )
    await templates.create(database, account, draft)
    return account, e164


async def ringing_call(database: Database, e164: str) -> UUID:
    """A call that has just come in."""
    webhook = InboundCall(
        carrier="twilio",
        carrier_call_id=f"CA{new_id().hex}",
        to_number=e164,
        from_number="+14155550100",
        started_at=SystemClock().now(),
    )
    return (await inbound.begin(database, webhook)).call.id
