"""Leads are dialled once, when they may be, and again when that may help."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from db import call_leases, dispatch_records, lead_control, notices, notify
from db.calls import CallRecord
from db.dispatch import CHANNEL, ClaimedLead
from telephony.carrier import DialRequest
from telephony.errors import CarrierError
from tests.dispatch.conftest import PERSON, DispatchEnvironment, make_dispatcher, make_environment
from voicebot.dispatch.breaker import FAILURES
from voicebot.dispatch.dispatcher import MAX_ATTEMPTS_AT_ONCE, MAX_PER_ACCOUNT
from voicebot.dispatch.due_work import CHECK_AGAIN_S

Env = DispatchEnvironment


async def test_a_lead_is_dialled_once(dispatch_environment: Env) -> None:
    """The attempt is a call with the carrier's id; however often dispatchers look, it is dialled once."""
    env = dispatch_environment
    lead = await env.lead(await env.template())
    await asyncio.gather(*(env.step(each) for each in (env.dispatcher, env.other(), env.other())))
    await env.step()

    [call] = await env.calls_of(lead)
    assert [request.to for request in env.carrier.dialled] == [lead.phone]
    assert (
        env.carrier.dialled[0].answer_url == f"https://bot.example.com/webhooks/twilio/voice?call={call.id}"
    )
    assert (call.direction, call.status, call.carrier_call_id) == (
        "outbound",
        "ringing",
        next(iter(env.carrier.live)),
    )
    assert ((found := await env.again(lead)).status, found.attempts) == ("dialing", 1)


@pytest.mark.parametrize("reason", ["busy", "no_answer", "failed"])
async def test_a_lead_that_was_not_reached_is_dialled_again(dispatch_environment: Env, reason: str) -> None:
    """After the pause of its outcome, until the attempts are used up; then the lead has that outcome."""
    env = dispatch_environment
    lead = await env.lead(await env.template(max_attempts=2, retry={reason: 60_000}))
    await env.step()
    await env.ends((await env.calls_of(lead))[0], reason)
    await env.step()
    waiting = await env.again(lead)
    assert (waiting.status, waiting.next_attempt_at) == ("queued", env.clock.now() + timedelta(minutes=1))
    env.clock.advance(seconds=59)
    await env.step()
    assert len(env.carrier.dialled) == 1
    env.clock.advance(seconds=1)
    await env.step()
    assert len(env.carrier.dialled) == 2
    await env.ends((await env.calls_of(lead))[1], reason)
    await env.step()
    assert ((done := await env.again(lead)).status, done.outcome, done.attempts) == ("finished", reason, 2)


async def test_an_answered_call_finishes_the_lead(dispatch_environment: Env) -> None:
    """Its outcome is what the agent recorded, or that it was answered."""
    env = dispatch_environment
    template_id = await env.template()
    plain, booked = await env.lead(template_id), await env.lead(template_id, "+14155550198")
    await env.step()
    await env.ends((await env.calls_of(plain))[0], "hangup", answered=True)
    await env.ends((await env.calls_of(booked))[0], "end_call", answered=True, outcome="booked")
    await env.step()
    assert [(await env.again(lead)).outcome for lead in (plain, booked)] == ["answered", "booked"]
    assert {(await env.again(lead)).status for lead in (plain, booked)} == {"finished"}


async def test_a_pause_does_not_shorten_the_time_before_a_retry(dispatch_environment: Env) -> None:
    """A lead that is held and resumed is due when it was due before."""
    env = dispatch_environment
    lead = await env.lead(await env.template(retry={"busy": 3_600_000}))
    await env.step()
    [call] = await env.calls_of(lead)
    await env.ends(call, "busy")
    await env.finalise()
    due = env.clock.now() + timedelta(hours=1)
    await lead_control.hold(env.database, env.account_id, lead.id, env.clock.now())
    assert (await env.again(lead)).next_attempt_at == due
    env.clock.advance(minutes=1)
    await lead_control.resume(env.database, env.account_id, lead.id, env.clock.now())
    await env.step()
    found = await env.again(lead)
    assert (found.status, found.next_attempt_at, found.waits_for) == ("queued", due, "retry")
    assert len(env.carrier.dialled) == 1


async def test_a_call_that_we_dropped_is_dialled_again(dispatch_environment: Env) -> None:
    """An answered call that ended by a failure of ours is tried again after its own pause."""
    env = dispatch_environment
    lead = await env.lead(await env.template(retry={"dropped": 5000}))
    await env.step()
    await env.ends((await env.calls_of(lead))[0], "process_lost", answered=True, ended_by="system")
    await env.step()
    assert (await env.again(lead)).next_attempt_at == env.clock.now() + timedelta(seconds=5)


async def test_leads_wait_for_a_channel_without_using_anything(dispatch_environment: Env) -> None:
    """A number has so many calls at once; the person's rate limit does not count the waiting (nine alerts in
    sixteen seconds, no dial)."""
    env = dispatch_environment
    template_id = await env.template(rate_limit={"calls": 1, "per_ms": 3_600_000})
    waiting = [await env.lead(template_id, f"+1415555020{index}") for index in range(4)]
    for _ in range(5):
        await env.step()
    assert len(env.carrier.dialled) == 2
    ringing = [call for lead in waiting for call in await env.calls_of(lead)]
    await env.ends(ringing[0], "hangup", answered=True)
    await env.step()
    assert len(env.carrier.dialled) == 3
    assert [(await env.again(lead)).attempts for lead in waiting] == [1, 1, 1, 0]


async def test_a_channel_is_kept_while_its_call_is_live(dispatch_environment: Env) -> None:
    """A call of ten minutes whose lease is renewed keeps its channel."""
    env = dispatch_environment
    template_id = await env.template()
    talking = [await env.lead(template_id, f"+1415555020{index}") for index in range(3)]
    await env.step()
    live = [(await env.calls_of(lead))[0] for lead in talking[:2]]
    env.clock.advance(minutes=10)
    await call_leases.renew(env.database, [call.id for call in live], timedelta(seconds=90))
    assert await call_leases.end_expired(env.database, limit=10) == []
    await env.step()
    assert len(env.carrier.dialled) == 2


async def test_inbound_calls_find_channels(dispatch_environment: Env) -> None:
    """Reserved channels are not used for dialling."""
    env = dispatch_environment
    await env.database.execute("UPDATE numbers SET reserved_inbound = 1")
    template_id = await env.template()
    for index in range(3):
        await env.lead(template_id, f"+1415555020{index}")
    await env.step()
    assert len(env.carrier.dialled) == 1


async def test_the_rate_limit_of_a_person_is_never_exceeded(dispatch_environment: Env) -> None:
    """Twelve leads of one person and three dispatchers at once: as many calls as the limit allows, one after
    the other."""
    env = dispatch_environment
    await env.database.execute("UPDATE numbers SET channels = 100")
    template_id = await env.template(rate_limit={"calls": 3, "per_ms": 3_600_000})
    people = [await env.lead(template_id) for _ in range(12)]
    dispatchers = [env.dispatcher, env.other(), env.other()]
    for _ in range(16):
        await asyncio.gather(*(env.step(each) for each in dispatchers))
        live = [call for lead in people for call in await env.calls_of(lead) if call.status != "ended"]
        assert len(live) <= 1
        for call in live:
            await env.ends(call, "hangup", answered=True)
    assert len(env.carrier.dialled) == 3
    waiting = [lead for lead in [await env.again(one) for one in people] if lead.status == "queued"]
    assert {lead.next_attempt_at for lead in waiting} == {env.clock.now() + timedelta(hours=1)}
    assert {lead.waits_for for lead in waiting} == {"rate_limit"}


async def test_one_person_has_one_call_at_a_time(dispatch_environment: Env) -> None:
    """Two leads of a person, three dispatchers: the second waits without an attempt until the call ends."""
    env = dispatch_environment
    template_id, other_template = await env.template(), await env.template()
    leads = [await env.lead(template_id), await env.lead(other_template)]
    for _ in range(3):
        await asyncio.gather(*(env.step(each) for each in (env.dispatcher, env.other(), env.other())))
    assert [request.to for request in env.carrier.dialled] == [leads[0].phone]
    [first, second] = sorted([await env.again(lead) for lead in leads], key=lambda lead: lead.status)
    assert [(lead.status, lead.attempts) for lead in (first, second)] == [("dialing", 1), ("queued", 0)]
    assert second.next_attempt_at == env.clock.now()  # due: it is claimed as soon as the call has ended
    assert await env.step() == CHECK_AGAIN_S  # it is not looked at again before
    await env.ends((await env.calls_of(first))[0], "hangup", answered=True)
    await env.step()
    assert ((found := await env.again(second)).status, found.attempts) == ("dialing", 1)


async def test_another_account_may_call_the_same_person(dispatch_environment: Env) -> None:
    """Accounts know nothing of each other's calls."""
    env = dispatch_environment
    other = await make_environment(env.database, "+14155550101")
    other.clock.at = env.clock.at
    for each in (env, other):
        await each.lead(await each.template())
    await env.step()
    assert [request.to for request in env.carrier.dialled] == [PERSON, PERSON]


async def test_a_race_for_a_person_is_lost_without_an_attempt(dispatch_environment: Env) -> None:
    """Both leads are claimed, by two processes, before either has begun its attempt."""
    env = dispatch_environment
    template_id = await env.template()
    leads = [await env.lead(template_id), await env.lead(template_id)]
    claims: list[ClaimedLead] = []
    for _ in leads:
        claims += await env.dispatcher.claim(env.clock.now(), 9)
    assert {claim.id for claim in claims} == {lead.id for lead in leads}
    await asyncio.gather(*(env.dispatcher.work(claim) for claim in claims))
    assert len(env.carrier.dialled) == 1
    found = [await env.again(lead) for lead in leads]
    waiting = [(lead.attempts, lead.waits_for) for lead in found if lead.status == "queued"]
    assert waiting == [(0, "person")]


async def test_the_end_of_a_call_wakes_the_dispatchers(dispatch_environment: Env) -> None:
    """Also that of a lost process, again when the carrier has been asked to hang it up."""
    env = dispatch_environment
    lead = await env.lead(await env.template(max_attempts=1))
    await env.lead(await env.template())
    await env.step()
    woken, is_listening = asyncio.Event(), asyncio.Event()
    listening = asyncio.create_task(
        notify.listen(env.database.dsn, CHANNEL, lambda probe: (is_listening if probe else woken).set())
    )
    try:
        async with asyncio.timeout(30):
            while not is_listening.is_set():
                await env.database.execute("SELECT pg_notify($1, 'probe')", CHANNEL)
                await asyncio.sleep(0.02)
        await env.loses_process()
        async with asyncio.timeout(30):
            await woken.wait()
        [call] = await env.calls_of(lead)
        assert call.status == "ended"
        await env.dispatcher.run_once()
        await env.dispatcher.finish(30)
        assert len(env.carrier.dialled) == 1  # it may still ring at the carrier
        woken.clear()
        await env.finalise()
        async with asyncio.timeout(30):
            await woken.wait()
        await env.step()
        assert len(env.carrier.dialled) == 2
    finally:
        listening.cancel()
        await asyncio.wait([listening])


async def test_people_are_called_in_their_window(dispatch_environment: Env) -> None:
    """Outside the window the lead waits for its exact opening, in the person's time zone."""
    env = dispatch_environment
    env.clock.at = env.clock.at.replace(hour=2, minute=0, second=0, microsecond=0)
    lead = await env.lead(
        await env.template(window={"from": "09:00", "to": "20:00"}), time_zone="Asia/Kolkata"
    )
    await env.step()
    assert env.carrier.dialled == []
    opening = env.clock.at.replace(hour=3, minute=30)
    assert ((found := await env.again(lead)).next_attempt_at, found.waits_for) == (opening, "window")
    env.clock.at = opening
    await env.step()
    assert len(env.carrier.dialled) == 1


async def test_who_opted_out_is_not_called(dispatch_environment: Env) -> None:
    """The lead ends with that outcome and no attempt."""
    env = dispatch_environment
    lead = await env.lead(await env.template())
    await dispatch_records.opt_out(env.database, env.account_id, str(lead.phone), "")
    await env.step()
    assert ((found := await env.again(lead)).status, found.outcome, found.call_ids) == (
        "finished", "opted_out", [],
    )  # fmt: skip


async def test_a_lead_whose_time_is_over_is_not_called(dispatch_environment: Env) -> None:
    """After ``latest_at`` the lead is expired, also if only a retry would come later."""
    env = dispatch_environment
    template_id = await env.template(retry={"busy": 60_000})
    late = await env.lead(template_id, latest_at=env.clock.now() + timedelta(seconds=30))
    await env.step()
    await env.ends((await env.calls_of(late))[0], "busy")
    await env.step()
    assert ((found := await env.again(late)).status, found.outcome) == ("finished", "busy")


@pytest.mark.parametrize(
    "change", ["active = false", "carrier = 'exotel'", "reserved_inbound = channels", "reserved_inbound = 99"]
)
async def test_without_a_usable_number_leads_end_with_one_alert(
    dispatch_environment: Env, change: str
) -> None:
    """A number that returns nothing is not asked again without end."""
    env = dispatch_environment
    template_id = await env.template()
    leads = [await env.lead(template_id, f"+1415555020{index}") for index in range(3)]
    await env.database.execute(f"UPDATE numbers SET {change}")  # noqa: S608
    for _ in range(3):
        await env.step()
    assert {(await env.again(lead)).outcome for lead in leads} == {"number_unavailable"}
    [alert] = await env.database.fetch("SELECT code, count FROM alerts")
    assert (alert["code"], alert["count"]) == ("number_unavailable", 3)


async def test_leads_of_a_template_that_is_not_active_end_with_one_alert(dispatch_environment: Env) -> None:
    """19,494 leads a month with a template that does not exist: each ends, and they raise one alert."""
    env = dispatch_environment
    template_id = await env.template()
    leads = [await env.lead(template_id, f"+1415555020{index}") for index in range(3)]
    await env.database.execute("UPDATE templates SET status = 'draft' WHERE id = $1", template_id)
    for _ in range(2):
        await env.step()
    assert {(await env.again(lead)).outcome for lead in leads} == {"template_unavailable"}
    assert len(await env.database.fetch("SELECT FROM alerts")) == 1


async def test_a_process_that_dies_before_it_asks_the_carrier(dispatch_environment: Env) -> None:
    """Its channel is free again when the attempt's lease is over, and the lead is dialled a minute later."""
    env = dispatch_environment
    lead = await env.lead(await env.template(retry={"no_answer": 1000}))

    async def dies(_: DialRequest) -> None:
        raise asyncio.CancelledError

    env.carrier.on_dial = dies
    await env.step()
    env.carrier.on_dial, env.carrier.dialled = None, []
    await env.database.execute("UPDATE calls SET held_until = now() - interval '1 second'")
    assert len(await call_leases.end_expired(env.database, limit=10)) == 1
    for _ in range(3):
        await env.step()
        env.clock.advance(minutes=1)
    assert len(env.carrier.dialled) == 1
    assert (await env.again(lead)).status == "dialing"


async def test_a_lost_answer_does_not_dial_twice(dispatch_environment: Env) -> None:
    """A call that the carrier placed although its answer was lost is found and hung up before a retry."""
    env = dispatch_environment
    await env.lead(await env.template(retry={"no_answer": 1000}))
    env.carrier.loses_answers = True
    env.carrier.errors = [CarrierError("no answer", status=0, retryable=True, uncertain=True)]
    await env.step()
    assert len(env.carrier.live) == 1
    env.clock.advance(seconds=2)
    await env.step()
    assert len(env.carrier.dialled) == 1
    await env.database.execute("UPDATE calls SET held_until = now() - interval '1 second'")
    await call_leases.end_expired(env.database, limit=10)
    await env.step()
    assert env.carrier.live == {}
    env.clock.advance(seconds=2)
    await env.step()
    assert len(env.carrier.dialled) == 2
    assert len(env.carrier.live) == 1


async def test_a_refused_call_does_not_count(dispatch_environment: Env) -> None:
    """A carrier that takes no calls at present uses up no attempt, and gets its pause."""
    env = dispatch_environment
    lead = await env.lead(await env.template(max_attempts=1))
    env.carrier.errors = [CarrierError("slow down", status=429, retryable=True, retry_after_s=20)]
    await env.step()
    await env.step()
    found = await env.again(lead)
    assert (found.status, found.attempts) == ("queued", 0)
    assert found.next_attempt_at == env.clock.now() + timedelta(seconds=20)
    env.clock.advance(seconds=20)
    await env.step()
    assert len(env.carrier.dialled) == 2


async def test_refused_credentials_raise_one_alert(dispatch_environment: Env) -> None:
    """One an hour for an account and a carrier, however many leads and templates meet it; none is lost."""
    env = dispatch_environment
    await env.database.execute("UPDATE numbers SET channels = 100")
    first, second = [await env.template(webhook_url="https://example.com/hook") for _ in range(2)]
    leads = [await env.lead(first if n < 2 else second, f"+1415555020{n}") for n in range(4)]
    refusal = CarrierError("HTTP 401, code 20003: Authenticate", status=401, account_refused=True)
    env.carrier.errors = [refusal] * 3
    for _ in range(4):
        await env.step()
        env.clock.advance(seconds=1)
    page = await dispatch_records.list_alerts(env.database, env.account_id, limit=9)
    [alert] = page.items
    assert (alert.code, alert.carrier, alert.template_id) == ("carrier_refused", "twilio", None)
    assert (alert.count, alert.detail) == (3, "HTTP 401, code 20003: Authenticate")
    told = (await notices.list_notices(env.database, env.account_id, limit=9)).items
    assert [notice.message["data"] for notice in told if notice.message["type"] == "alert"] == [
        {"code": "carrier_refused", "template_id": None, "carrier": "twilio", "detail": alert.detail}
    ]
    assert {(await env.again(lead)).status for lead in leads} == {"dialing"}

    env.carrier.errors = [refusal]
    env.clock.advance(seconds=3600)
    await env.lead(first, "+14155550209")
    await env.step()
    assert len((await dispatch_records.list_alerts(env.database, env.account_id, limit=9)).items) == 2


async def test_a_carrier_that_is_down_is_asked_by_one_attempt(dispatch_environment: Env) -> None:
    """After failures in a row, one attempt at a time finds out whether it is back."""
    env = dispatch_environment
    await env.database.execute("UPDATE numbers SET channels = 100")
    template_id = await env.template()
    for index in range(FAILURES + 3):
        await env.lead(template_id, f"+141555502{index:02}")
    env.carrier.errors = [CarrierError("down", status=503, retryable=True) for _ in range(100)]
    for _ in range(6):
        await env.step()
    dialled = len(env.carrier.dialled)
    env.clock.advance(seconds=6)
    await env.step()
    assert len(env.carrier.dialled) == dialled + 1


async def test_a_cancelled_lead_is_not_dialled(dispatch_environment: Env) -> None:
    """Also if it is cancelled while the carrier is asked: then the call is hung up."""
    env = dispatch_environment
    template_id = await env.template()
    before, meanwhile = await env.lead(template_id), await env.lead(template_id, "+14155550198")
    assert (await lead_control.cancel(env.database, env.account_id, before.id, env.clock.now())) is not None

    async def cancel(_: DialRequest) -> None:
        await lead_control.cancel(env.database, env.account_id, meanwhile.id, env.clock.now())

    env.carrier.on_dial = cancel
    await env.step()
    assert [request.to for request in env.carrier.dialled] == [meanwhile.phone]
    assert env.carrier.live == {}
    await env.ends((await env.calls_of(meanwhile))[0], "canceled")
    await env.step()
    assert {(await env.again(lead)).status for lead in (before, meanwhile)} == {"cancelled"}


@pytest.mark.parametrize("stops", ["before the attempt", "while the greeting is made"])
async def test_a_process_that_stops_dials_nobody_any_more(dispatch_environment: Env, stops: str) -> None:
    """What it has claimed is given back without an attempt, and another process dials it, once."""
    env = dispatch_environment
    lead = await env.lead(await env.template())
    is_stopping = asyncio.Event()

    async def prepare(_: CallRecord) -> None:
        is_stopping.set()

    leaving = make_dispatcher(
        env.database, env.clock, env.carrier, prepare=prepare, is_draining=is_stopping.is_set
    )
    await leaving.run_once()
    if stops == "before the attempt":
        is_stopping.set()
    await leaving.finish(30)
    assert not env.carrier.dialled
    assert len(await env.calls_of(lead)) == (stops == "while the greeting is made")
    await env.step()
    env.clock.advance(minutes=1)
    await env.step()
    assert [request.to for request in env.carrier.dialled] == [lead.phone]
    assert (await env.again(lead)).attempts == 1


async def test_accounts_are_dialled_in_turns(dispatch_environment: Env) -> None:
    """One account's many leads do not starve another template's few."""
    env = dispatch_environment
    await env.database.execute("UPDATE numbers SET channels = 6")
    many, few = await env.template(), await env.template()
    for index in range(50):
        await env.lead(many, f"+14155551{index:03}")
    last = await env.lead(few, "+14155552000")
    await env.step()
    assert last.phone in [request.to for request in env.carrier.dialled]


async def test_a_slow_account_leaves_places_to_others(dispatch_environment: Env) -> None:
    """However often leads are claimed: an account whose attempts take long never has all places."""
    env = dispatch_environment
    other = await make_environment(env.database, "+14155550101")
    other.clock.at = env.clock.at
    await env.database.execute("UPDATE numbers SET channels = 1000")
    goes_on = asyncio.Event()

    async def waits(_: DialRequest) -> None:
        await goes_on.wait()

    env.carrier.on_dial = waits
    template_id = await env.template()
    for index in range(MAX_ATTEMPTS_AT_ONCE):
        await env.lead(template_id, f"+14155551{index:03}")
    for _ in range(4):
        await env.dispatcher.run_once()
        await asyncio.sleep(0)
    quick = await other.lead(await other.template(), "+14155552000")
    await env.dispatcher.run_once()
    async with asyncio.timeout(60):
        while quick.phone not in [request.to for request in env.carrier.dialled]:
            await asyncio.sleep(0.01)
    assert len(env.carrier.dialled) <= MAX_PER_ACCOUNT + 1
    goes_on.set()
    await env.dispatcher.finish(60)


@pytest.mark.parametrize("scope", ["account", "template"])
async def test_a_stop_holds_all_leads(dispatch_environment: Env, scope: str) -> None:
    """While an account or a template is stopped none of its leads is dialled; afterwards they are."""
    env = dispatch_environment
    template_id = await env.template()
    await env.lead(template_id)
    stopped = None if scope == "account" else template_id
    await lead_control.stop(env.database, env.account_id, stopped, "pause")
    await env.step()
    assert env.carrier.dialled == []
    assert await lead_control.lift_stop(env.database, env.account_id, stopped, "pause")
    await env.step()
    assert len(env.carrier.dialled) == 1


async def test_the_next_due_time_is_known(dispatch_environment: Env) -> None:
    """The dispatcher waits until then, and does not ask every few seconds."""
    env = dispatch_environment
    await env.lead(await env.template(), earliest_at=env.clock.now() + timedelta(seconds=17))
    assert await env.step() == 17
