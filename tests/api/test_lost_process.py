"""Calls of a killed process are ended by another process, and no other calls are."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from db.pool import Database
from tests.api.processes import server
from tests.api.server_fixture import AUTH_TOKEN, PUBLIC_URL, client, create_tenant
from tests.api.short_lease import LEASE
from tests.api.twilio import Twilio
from voicebot.sandbox.environment import Sandbox

pytestmark = pytest.mark.long

SHORT_LEASE = (sys.executable, "-m", "tests.api.short_lease")


@pytest.fixture
async def environment(database_url: str, tmp_path: Path) -> AsyncIterator[Mapping[str, str]]:
    """What servers with one database and the sandbox's vendors are started with."""
    async with Sandbox() as sandbox:
        yield {
            **sandbox.env,
            "DATABASE_URL": database_url,
            "VOICEBOT_DATA_DIR": str(tmp_path),
            "VOICEBOT_SECRET_KEY": "k" * 32,
            "PUBLIC_URL": PUBLIC_URL,
            "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
        }


@dataclass(frozen=True, slots=True)
class Replica:
    """A server process."""

    url: str


async def _until(api: httpx.AsyncClient, sid: str, status: str) -> dict[str, Any]:
    """The call with the carrier's id, once it has a status."""
    async with asyncio.timeout(60):
        while True:
            items = (await api.get("/calls")).json()["items"]
            found: list[dict[str, Any]] = [item for item in items if item["carrier_call_id"] == sid]
            if found and found[0]["status"] == status:
                return found[0]
            await asyncio.sleep(0.05)


async def _renewed(database: Database, sid: str) -> None:
    """Wait until the call's process has renewed its lease, which before that has a call's first length."""
    async with asyncio.timeout(60):
        while not await database.fetch(
            "SELECT FROM calls WHERE carrier_call_id = $1 AND held_until <= now() + $2::interval",
            sid,
            LEASE.length,
        ):
            await asyncio.sleep(0.05)


async def test_calls_of_a_killed_process_are_ended_by_another(
    database: Database, environment: Mapping[str, str], tmp_path: Path
) -> None:
    """After kill -9 the process's calls end, even one without a stream; calls of others continue."""
    async with (
        server(SHORT_LEASE, environment, tmp_path) as (first, process),
        server(SHORT_LEASE, environment, tmp_path) as (second, _),
        create_tenant(first, database) as tenant,
        client(second, tenant.keys["owner"]) as elsewhere,
    ):
        desk = await tenant.orchestrator(greeting={"text": "Hello."})
        number = (await tenant.owner.get(f"/numbers/{desk['number_id']}")).json()["e164"]
        lost, waiting = (Twilio(Replica(first), number) for _ in range(2))
        kept = Twilio(Replica(second), number)
        opens_lost = (await lost.post("voice")).token
        opens_kept = (await kept.post("voice")).token
        await waiting.post("voice")
        async with lost.media(opens_lost), kept.media(opens_kept):
            for call in (lost, kept):
                await _until(elsewhere, call.call_sid, "in_progress")
                await _renewed(database, call.call_sid)
            process.kill()
            await process.wait()
            # Three minutes later.
            await database.execute(
                "UPDATE calls SET held_until = now() WHERE carrier_call_id = $1", waiting.call_sid
            )
            ended = await _until(elsewhere, lost.call_sid, "ended")
            never = await _until(elsewhere, waiting.call_sid, "ended")
            still = await _until(elsewhere, kept.call_sid, "in_progress")

        assert (ended["ended_by"], ended["end_reason"]) == ("system", "process_lost")
        assert (never["ended_by"], never["end_reason"]) == ("system", "never_connected")
        assert still["ended_at"] is None
        happened = (await elsewhere.get(f"/calls/{ended['id']}/events", params={"limit": 200})).json()[
            "items"
        ]
        assert [event["seq"] for event in happened] == list(range(1, len(happened) + 1))
        assert [event["type"] for event in happened].count("call.ended") == 1
        assert happened[-1]["data"] == {"ended_by": "system", "reason": "process_lost"}
        lead = (await elsewhere.get(f"/leads/{ended['lead_id']}")).json()
        assert lead["status"] == "finished"
