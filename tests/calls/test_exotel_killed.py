"""A server process that is killed in a call of Exotel: the flow leads the caller to another process."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from db.pool import Database
from tests.api.processes import VOICEBOT, server
from tests.api.server_fixture import create_tenant
from tests.calls.harness import OPEN, PHRASES, PUBLIC_URL, CallHarness, exotel_settings, hear
from voicebot.sandbox.caller import HangUp, Say, Step, WaitFor
from voicebot.sandbox.environment import Sandbox
from voicebot.sandbox.exotel import Exotel
from voicebot.sandbox.vendors.latency import Latency

SERVE = (*VOICEBOT, "serve")


@pytest.mark.long
async def test_a_caller_of_a_killed_process_goes_on_with_another(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    """After kill -9 the second Passthru applet answers 200, and the same agent has the caller again."""
    quick = Latency(first_token_ms=20, token_ms=1, first_audio_ms=20, audio_ms=1)
    async with Sandbox(phrases=PHRASES, latency=quick, scripted_speech=True) as sandbox:
        environment = {
            **sandbox.env,
            "DATABASE_URL": database_url,
            "VOICEBOT_DATA_DIR": str(tmp_path),
            "VOICEBOT_SECRET_KEY": "k" * 32,
            "VOICEBOT_MAX_LAG_MS": "0",
            "PUBLIC_URL": PUBLIC_URL,
        }
        async with (
            server(SERVE, environment, tmp_path) as (first, process),
            server(SERVE, environment, tmp_path) as (second, _),
            create_tenant(second, database) as tenant,
            Exotel(exotel_settings(first)) as exotel,
        ):
            await sandbox.attach(exotel)
            known = cast("Any", SimpleNamespace(app_state=SimpleNamespace(database=database)))
            calls = CallHarness(
                sandbox=sandbox, carrier=exotel, exotel=exotel, server=known, tenant=tenant,
                spoken=False, carrier_name="exotel",
            )  # fmt: skip
            number = await calls.orchestrator(calls.route("billing", await calls.agent()))
            talked, killed = asyncio.Event(), asyncio.Event()
            pause = WaitFor(event=killed, timeout_ms=60_000)

            def on_step(step: Step) -> None:
                if step is pause:
                    talked.set()

            script = (hear(), Say(text=OPEN), hear(), pause, hear(60_000), Say(text=OPEN), hear(), HangUp())
            call, person = calls.dial(*script, to=number, on_step=on_step)
            async with asyncio.timeout(90):
                await talked.wait()
            exotel.settings = replace(exotel.settings, server_url=second)  # as a balancer does
            process.kill()
            await process.wait()
            killed.set()
            await call.ended()
            got = await calls.facts(call, person)
    assert got.outcome.ok, got.outcome.failure
    assert call.asked == ("voice 200", "to-person 302", "again 200", "voice 200")
    assert (got.record["resumes"], got.record["ended_by"], got.record["end_reason"]) == (
        1,
        "caller",
        "hangup",
    )
    assert len(got.events("call.resumed")) == 1
