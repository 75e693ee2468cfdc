"""An ended call is finalised once: outcome, cost, output, webhooks and lead, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from db import account_settings, calls, dispatch_records, notices, utterances
from db.account_settings import SettingsDraft
from db.calls import CallRecord
from db.ids import new_id
from db.leads import LeadRecord
from db.outbox import NoticeRecord
from db.pool import Database
from db.utterances import UtteranceRecord
from templates.outbound import OutputField
from tests.dispatch.conftest import CREDENTIALS, DispatchEnvironment
from tests.dispatch.dying_database import DyingDatabase
from voicebot.dispatch.breaker import Breakers
from voicebot.dispatch.finaliser import LEASE, MODEL_FOR, Finaliser
from voicebot.dispatch.output_fields import ModelBusy

Env = DispatchEnvironment
HOOK = "https://example.com/hook"
ROOT = Path(__file__).parents[2]


@dataclass
class ScriptedModel:
    """Fills output fields with given values."""

    values: dict[str, Any] | None
    transcripts: list[list[str]] = field(default_factory=list)
    busy: list[ModelBusy] = field(default_factory=list)
    """What it answers first."""

    async def fill(
        self, fields: Mapping[str, OutputField], transcript: list[UtteranceRecord]
    ) -> dict[str, Any] | None:
        """See ``voicebot.dispatch.finaliser.FillsOutput``."""
        assert fields
        self.transcripts.append([said.text for said in transcript])
        if self.busy:
            raise self.busy.pop(0)
        return self.values


def finaliser(env: Env, model: ScriptedModel | None = None, database: Database | None = None) -> Finaliser:
    """The finaliser of a process."""
    carriers = {"twilio": env.carrier.as_carrier()}
    breakers = Breakers(env.database, env.clock, CREDENTIALS)
    return Finaliser(database or env.database, env.clock, carriers, breakers, model)


async def finalised(by: Finaliser) -> None:
    """One process finalises what is due, or dies."""
    with contextlib.suppress(asyncio.CancelledError):
        await by.run_once()
    await by.finish(30)


async def says(env: Env, call: CallRecord, seq: int, speaker: Any, text: str) -> None:
    """Something is said on a call."""
    said = UtteranceRecord(
        id=new_id(), account_id=env.account_id, call_id=call.id, seq=seq, speaker=speaker,
        template_id=call.template_id, node=None, text=text, heard_text=None, interrupted=False,
        source="llm" if speaker == "agent" else "stt", started_ms=seq * 1000, ended_ms=seq * 1000 + 900,
    )  # fmt: skip
    await utterances.record(env.database, said)


async def answered(env: Env, lead: LeadRecord, seconds: int = 30) -> CallRecord:
    """The lead's call is answered, both sides speak, and it ends."""
    await env.step()
    call = (await env.calls_of(lead))[-1]
    await calls.answered(env.database, env.account_id, call.id, env.clock.now())
    await says(env, call, 1, "agent", "Would you like a visit?")
    await says(env, call, 2, "caller", "Yes, tomorrow.")
    env.clock.advance(seconds=seconds)
    await env.ends(call, "hangup", ended_by="caller")
    return await calls.get(env.database, env.account_id, call.id)


async def webhooks(env: Env) -> list[NoticeRecord]:
    """The webhooks in the outbox, oldest first."""
    page = await notices.list_notices(env.database, env.account_id, limit=100)
    return sorted(page.items, key=lambda notice: notice.id)


async def told(env: Env) -> list[tuple[str, Any]]:
    """The type and the data of each webhook."""
    return [(notice.message["type"], notice.message["data"]) for notice in await webhooks(env)]


async def test_a_finished_call_is_reported(dispatch_environment: Env) -> None:
    """`call.ended` has outcome, duration, cost and the output fields; `lead.finished` follows it."""
    env = dispatch_environment
    prices = {
        "currency": "EUR",
        "stt": {"deepgram": {"per_minute": 0.01}},
        "tts": {"elevenlabs": {"per_1000_characters": 0.1}},
    }
    draft = SettingsDraft(prices=prices)
    await account_settings.update(env.database, env.account_id, draft, expected_revision=1)
    output = {"visit": {"type": "boolean", "description": "Whether they want a visit"}}
    lead = await env.lead(await env.template(webhook_url=HOOK, output=output))
    call = await answered(env, lead)
    model = ScriptedModel({"visit": True})
    await finalised(finaliser(env, model))

    assert model.transcripts == [["Would you like a visit?", "Yes, tomorrow."]]
    [(first, ended), (second, finished)] = await told(env)
    assert (first, second) == ("call.ended", "lead.finished")
    facts = ("call_id", "direction", "outcome", "end_reason", "duration_ms", "output")
    assert [ended[name] for name in facts] == [
        str(call.id), "outbound", "answered", "hangup", 30_000, {"visit": True},
    ]  # fmt: skip
    assert ended["cost"] == {
        "currency": "EUR",
        "total": 0.0073,
        "items": [
            {"part": "stt", "provider": "deepgram", "seconds": 30.0, "cost": 0.005},
            {"part": "tts", "provider": "elevenlabs", "characters": 23, "cost": 0.0023},
        ],
    }
    assert (finished["lead_id"], finished["outcome"], finished["attempts"]) == (str(lead.id), "answered", 1)
    kept = await calls.get(env.database, env.account_id, call.id)
    assert (kept.outcome, kept.cost, kept.output) == ("answered", ended["cost"], {"visit": True})
    assert {(notice.url, notice.template_id) for notice in await webhooks(env)} == {(HOOK, lead.template_id)}


async def test_output_is_absent_when_the_model_fails(dispatch_environment: Env) -> None:
    """The call is finalised without it."""
    env = dispatch_environment
    lead = await env.lead(await env.template(webhook_url=HOOK, output={"visit": {"type": "boolean"}}))
    await answered(env, lead)
    await finalised(finaliser(env, ScriptedModel(None)))
    assert [data["output"] for _, data in await told(env)] == [None, None]


async def test_a_model_that_is_busy_is_asked_again(dispatch_environment: Env) -> None:
    """Until then nothing is reported; any process asks, after pauses that double or that the vendor wants."""
    env = dispatch_environment
    lead = await env.lead(await env.template(webhook_url=HOOK, output={"visit": {"type": "boolean"}}))
    call = await answered(env, lead)
    model = ScriptedModel({"visit": True})
    model.busy = [ModelBusy("HTTP 503", None), ModelBusy("HTTP 429", env.clock.now() + timedelta(seconds=30))]
    for place, seconds in enumerate((2, 28, 0)):
        process = finaliser(env, model)
        await finalised(process)
        assert len(model.transcripts) == place + 1
        assert len(await told(env)) == (2 if place == 2 else 0)
        if seconds:
            assert await process.run_once() == pytest.approx(seconds)
        env.clock.advance(seconds=seconds)
    await finalised(finaliser(env, model))
    assert len(model.transcripts) == 3
    assert [data["output"] for _, data in await told(env)] == [{"visit": True}] * 2
    assert (await calls.get(env.database, env.account_id, call.id)).output == {"visit": True}


@pytest.mark.parametrize("wants_s", [None, 3600])
async def test_a_model_that_stays_busy_leaves_no_output(
    dispatch_environment: Env, wants_s: int | None
) -> None:
    """Within two minutes of its end the call is finalised without it; at once if the vendor wants more."""
    env = dispatch_environment
    lead = await env.lead(await env.template(webhook_url=HOOK, output={"visit": {"type": "boolean"}}))
    call = await answered(env, lead)
    until = None if wants_s is None else env.clock.now() + timedelta(seconds=wants_s)
    model = ScriptedModel({"visit": True}, busy=[ModelBusy("HTTP 429", until)] * 99)
    process, asked_for = finaliser(env, model), 0.0
    while (await calls.get(env.database, env.account_id, call.id)).outcome is None:
        await finalised(process)
        pause_s = await process.run_once()
        asked_for += pause_s
        env.clock.advance(seconds=pause_s)
    assert len(model.transcripts) == (7 if wants_s is None else 1)
    assert asked_for < MODEL_FOR.total_seconds() + 60
    assert [(type_, data["output"]) for type_, data in await told(env)] == [
        ("call.ended", None), ("lead.finished", None),
    ]  # fmt: skip


async def test_nobody_answered_so_no_model_is_asked(dispatch_environment: Env) -> None:
    """A busy line is reported, with nothing charged, and `lead.finished` comes with the last attempt."""
    env = dispatch_environment
    output = {"visit": {"type": "boolean"}}
    template_id = await env.template(webhook_url=HOOK, output=output, max_attempts=2, retry={"busy": 60_000})
    lead, model = await env.lead(template_id), ScriptedModel({"visit": True})
    for _ in range(2):
        await env.step()
        await env.ends((await env.calls_of(lead))[-1], "busy")
        await finalised(finaliser(env, model))
        env.clock.advance(seconds=60)
    assert model.transcripts == []
    assert [(type_, data["outcome"]) for type_, data in await told(env)] == [
        ("call.ended", "busy"), ("call.ended", "busy"), ("lead.finished", "busy"),
    ]  # fmt: skip
    assert {data["cost"] for type_, data in await told(env) if type_ == "call.ended"} == {None}


async def test_a_process_that_dies_at_any_statement_loses_and_repeats_nothing(
    dispatch_environment: Env,
) -> None:
    """Another process finalises the call after the lease, and each webhook is written once."""
    env = dispatch_environment
    template_id = await env.template(webhook_url=HOOK, output={"visit": {"type": "boolean"}})
    died_at = 0
    while True:
        died_at += 1
        lead = await env.lead(template_id)
        await answered(env, lead)
        before = await told(env)
        dying = DyingDatabase(env.database, died_at)
        model = ScriptedModel({"visit": True})
        await finalised(finaliser(env, model, dying.as_database()))
        for _ in range(2):  # the second process finds nothing to do
            env.clock.advance(seconds=LEASE.total_seconds())
            await finalised(finaliser(env, model))
        added = [type_ for type_, _ in (await told(env))[len(before) :]]
        assert added == ["call.ended", "lead.finished"], died_at
        found = await env.again(lead)
        assert (found.status, found.outcome, found.attempts) == ("finished", "answered", 1), died_at
        if not dying.has_died:
            break
    assert died_at == 6  # after five statements, the commit is one of them


async def test_two_processes_finalise_a_call_once(dispatch_environment: Env) -> None:
    """Also when the lease of the first has run out while it was still at work."""
    env = dispatch_environment
    lead = await env.lead(await env.template(webhook_url=HOOK, output={"visit": {"type": "boolean"}}))
    await answered(env, lead)
    model, goes_on = ScriptedModel({"visit": True}), asyncio.Event()

    class Slow(ScriptedModel):
        async def fill(self, *_: Any) -> dict[str, Any] | None:
            await goes_on.wait()
            return {"visit": False}

    slow = finaliser(env, Slow(None))
    await slow.run_once()
    env.clock.advance(seconds=LEASE.total_seconds())
    await finalised(finaliser(env, model))
    goes_on.set()
    await slow.finish(30)
    assert [(type_, data["output"]) for type_, data in await told(env)] == [
        ("call.ended", {"visit": True}), ("lead.finished", {"visit": True}),
    ]  # fmt: skip


async def test_a_call_that_takes_long_stays_with_its_process(
    dispatch_environment: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is renewed while the model is asked, so that no other process claims it meanwhile."""
    env = dispatch_environment
    monkeypatch.setattr("voicebot.dispatch.finaliser.RENEWAL_S", 0.01)
    await answered(env, await env.lead(await env.template(output={"visit": {"type": "boolean"}})))
    goes_on = asyncio.Event()

    class Slow(ScriptedModel):
        async def fill(self, *_: Any) -> dict[str, Any] | None:
            await goes_on.wait()
            return {"visit": True}

    slow = finaliser(env, Slow(None))
    await slow.run_once()
    env.clock.advance(seconds=LEASE.total_seconds() - 1)
    async with asyncio.timeout(60):
        while await env.database.fetch(
            "SELECT FROM calls WHERE finalise_after < $1", env.clock.now() + LEASE
        ):
            await asyncio.sleep(0.01)
    env.clock.advance(seconds=LEASE.total_seconds() - 1)
    assert await finaliser(env).claim(env.clock.now(), 9) == []
    goes_on.set()
    await slow.finish(60)
    [call] = await env.database.fetch("SELECT output FROM calls WHERE finalised_at IS NOT NULL")
    assert call["output"] == {"visit": True}


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_killed_process_loses_nothing(dispatch_environment: Env, dsn: str) -> None:
    """It is killed while the model is asked; the next process finalises the call."""
    env = dispatch_environment
    lead = await env.lead(await env.template(webhook_url=HOOK, output={"visit": {"type": "boolean"}}))
    await answered(env, lead)
    command = ("-m", "tests.dispatch.finalising_process", dsn)
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=PIPE, cwd=ROOT)
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"visit 2\n"
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    assert await told(env) == []
    env.clock.advance(minutes=10)
    await finalised(finaliser(env, ScriptedModel({"visit": True})))
    assert [type_ for type_, _ in await told(env)] == ["call.ended", "lead.finished"]


async def test_a_call_with_new_rows_is_finalised_at_once(dispatch_environment: Env) -> None:
    """Also while another transaction writes rows that refer to the call, such as events."""
    env = dispatch_environment
    call = await answered(env, await env.lead(await env.template(webhook_url=HOOK)))
    async with env.database.transaction() as other:
        await other.fetch("SELECT FROM calls WHERE id = $1 FOR KEY SHARE", call.id)
        await finalised(finaliser(env))
    assert [type_ for type_, _ in await told(env)] == ["call.ended", "lead.finished"]


async def test_a_call_that_is_being_changed_is_looked_for_again_soon(dispatch_environment: Env) -> None:
    """A call whose row another transaction has locked is finalised a second later, not at the next wake."""
    env = dispatch_environment
    call = await answered(env, await env.lead(await env.template(webhook_url=HOOK)))
    one = finaliser(env)
    async with env.database.transaction() as other:
        await other.fetch("SELECT FROM calls WHERE id = $1 FOR NO KEY UPDATE", call.id)
        assert await one.run_once() <= 1.0
    assert await told(env) == []
    await finalised(one)
    assert [type_ for type_, _ in await told(env)] == ["call.ended", "lead.finished"]


async def test_a_lead_without_a_number_is_reported_with_one_alert(dispatch_environment: Env) -> None:
    """Each lead ends with `lead.finished`; `alert` comes once, however many leads there are."""
    env = dispatch_environment
    await env.database.execute("UPDATE numbers SET active = false")
    template_id = await env.template(webhook_url=HOOK)
    for index in range(3):
        await env.lead(template_id, f"+1415555020{index}")
    for _ in range(3):
        await env.step()
    types = [type_ for type_, _ in await told(env)]
    assert (types.count("lead.finished"), types.count("alert")) == (3, 1)
    [alert] = (await dispatch_records.list_alerts(env.database, env.account_id, limit=9)).items
    assert (alert.code, alert.count) == ("number_unavailable", 3)


async def test_the_key_of_webhooks_is_made_once(dispatch_environment: Env) -> None:
    """The first webhook stores it; later ones use the same."""
    env = dispatch_environment
    keys = [
        await account_settings.webhook_secret(env.database, env.account_id, sealed) for sealed in ("a", "b")
    ]
    assert keys == ["a", "a"]
