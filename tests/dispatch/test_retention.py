"""Transcripts and payloads are deleted when their account's time is over."""

from __future__ import annotations

from typing import Any

from db import (
    account_settings,
    accounts,
    calls,
    dispatch_records,
    events,
    greetings,
    handoff_events,
    handoffs,
    notices,
    outbox,
    utterances,
)
from db.account_settings import SettingsDraft
from db.calls import CallRecord
from db.events import EventRecord
from db.handoffs import HandoffDraft
from db.ids import new_id
from db.leads import LeadRecord
from db.outbox import NoticeDraft
from db.utterances import UtteranceRecord
from tests.dispatch.conftest import PERSON, DispatchEnvironment
from voicebot.dispatch.retention import Retention
from voicebot.handoffs import create

Env = DispatchEnvironment
HOOK = "https://example.com/hook"


async def talked(env: Env) -> tuple[LeadRecord, CallRecord]:
    """A lead with a payload, and its call, on which something was said and done."""
    lead = await env.lead(await env.template(webhook_url=HOOK), payload={"name": "Ada"})
    await env.step()
    call = (await env.calls_of(lead))[0]
    place: dict[str, Any] = {"account_id": env.account_id, "call_id": call.id, "seq": 1, "template_id": None}
    said = UtteranceRecord(
        **place, id=new_id(), speaker="caller", node=None, text="My name is Ada.", heard_text=None,
        interrupted=False, source="stt", started_ms=0, ended_ms=900,
    )  # fmt: skip
    await utterances.record(env.database, said)
    called = EventRecord(
        **place, id=new_id(), type="function.called", at=env.clock.now(), node=None, data={"name": "Ada"}
    )
    await events.record(env.database, called)
    await env.ends(call, "hangup", answered=True)
    await env.finalise()
    return lead, call


async def keeps(env: Env, **days: Any) -> None:
    """The account keeps things for so many days."""
    before = await account_settings.get(env.database, env.account_id)
    draft = SettingsDraft(prices={}, **days)
    await account_settings.update(env.database, env.account_id, draft, expected_revision=before.revision)


async def whats_left(env: Env, lead: LeadRecord, call: CallRecord) -> tuple[int, list[Any], Any, list[Any]]:
    """Utterances, data of events, the payload, and the messages of webhooks."""
    said = await utterances.of_call(env.database, env.account_id, call.id)
    happened = [each.data for each in await events.of_call(env.database, env.account_id, call.id)]
    sent = (await notices.list_notices(env.database, env.account_id, limit=9)).items
    return len(said), happened, (await env.again(lead)).payload, [bool(each.message) for each in sent]


async def test_transcripts_and_payloads_are_deleted_in_their_time(dispatch_environment: Env) -> None:
    """Each after its own number of days; the call, its outcome and opt-outs stay."""
    env = dispatch_environment
    lead, call = await talked(env)
    await env.database.execute("UPDATE outbox SET state = 'sent'")
    await dispatch_records.opt_out(env.database, env.account_id, PERSON, "asked")
    await keeps(env, transcripts_days=10, payloads_days=20)
    retention = Retention(env.database, env.clock)
    whole = (1, [{"name": "Ada"}], {"name": "Ada"}, [True, True])
    env.clock.advance(days=9)
    await retention.delete_all()
    assert await whats_left(env, lead, call) == whole
    env.clock.advance(days=2)
    await retention.delete_all()
    assert await whats_left(env, lead, call) == (0, [{}], {"name": "Ada"}, [False, False])
    env.clock.advance(days=10)
    await retention.delete_all()
    assert (await env.again(lead)).payload == {}
    kept = await calls.get(env.database, env.account_id, call.id)
    assert (kept.outcome, (await env.again(lead)).outcome) == ("answered", "answered")
    assert len((await dispatch_records.list_opt_outs(env.database, env.account_id, limit=9)).items) == 1


async def test_greetings_with_values_of_a_payload_are_deleted_with_it(dispatch_environment: Env) -> None:
    """The audio that is the same for everybody stays, and that of a lead whose payload is kept."""
    env = dispatch_environment
    (lead, _), later = await talked(env), await env.lead(await env.template(), "+14155550198")
    for key, lead_id in (("fixed", None), ("Ada", lead.id), ("Bo", later.id)):
        await greetings.put(env.database, env.account_id, key, b"audio", lead_id=lead_id)
    await keeps(env, payloads_days=20)
    retention = Retention(env.database, env.clock)
    for days, left in ((19, {"fixed", "Ada", "Bo"}), (2, {"fixed", "Bo"})):
        env.clock.advance(days=days)
        await retention.delete_all()
        stored = await env.database.fetch("SELECT key FROM greetings")
        assert {row["key"] for row in stored} == left


async def test_what_handoffs_say_of_callers_is_deleted(dispatch_environment: Env) -> None:
    """With the transcripts, once they have ended; their notices too, which cannot be sent again then."""
    env = dispatch_environment
    _, call = await talked(env)
    await keeps(env, transcripts_days=10)
    said = {"reason": "My name is Ada.", "notes": "Ada", "resolution": "Ada was helped."}
    draft = HandoffDraft(
        intent="escalate", origin="model", reason=said["reason"], created_at=env.clock.now(), call_id=call.id
    )
    handoff = (await create.create(env.database, env.account_id, draft)).handoff
    await env.database.execute("UPDATE handoff_events SET line = seq")  # they are in the journal
    await env.database.execute(
        "UPDATE handoffs SET notes = $1, resolution = $2, assessment = $3, state = 'resolved'",
        said["notes"], said["resolution"], {"likely_cause": "Ada"},
    )  # fmt: skip
    message = {"text": "Ada"}
    sent = NoticeDraft(medium="email", message=message, at=env.clock.now(), handoff_id=handoff.id)
    [notice_id] = await outbox.put(env.database, env.account_id, [sent])
    await env.database.execute("UPDATE outbox SET state = 'dead'")
    retention = Retention(env.database, env.clock)
    env.clock.advance(days=11)
    await retention.delete_all()
    kept = await handoffs.get(env.database, env.account_id, handoff.id)
    assert (kept.reason, kept.notes) == (said["reason"], said["notes"])  # it has not ended
    await env.database.execute("UPDATE handoffs SET ended_at = $1", env.clock.now())
    env.clock.advance(days=11)
    await retention.delete_all()
    kept = await handoffs.get(env.database, env.account_id, handoff.id)
    assert (kept.reason, kept.notes, kept.resolution, kept.assessment) == ("", "", None, None)
    [created] = await handoff_events.after(env.database, env.account_id, 0, limit=9)
    assert (created.type, created.data["summary"]) == ("handoff.created", "")
    again = await notices.retry(env.database, env.account_id, notice_id, env.clock.now())
    assert (again.state, again.message) == ("dead", {})


async def test_an_account_without_retention_keeps_everything(dispatch_environment: Env) -> None:
    """Also when another account deletes its own."""
    env = dispatch_environment
    lead, call = await talked(env)
    other = await accounts.create(env.database, "Other")
    draft = SettingsDraft(prices={}, transcripts_days=1, payloads_days=1)
    await account_settings.update(env.database, other.id, draft, expected_revision=1)
    env.clock.advance(days=10_000)
    await Retention(env.database, env.clock).delete_all()
    assert await whats_left(env, lead, call) == (1, [{"name": "Ada"}], {"name": "Ada"}, [True, True])
