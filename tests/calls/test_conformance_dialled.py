"""What calls that we place do on every carrier; those of Exotel follow the flow. See `test_conformance`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.api.server_fixture import create, new_e164
from tests.calls.dialling import ALL_DAY, cancelled_unheard, dialled, over, until
from tests.calls.harness import BILL, HIGH, OPEN, CallHarness, hear, started
from voicebot.sandbox.caller import HangUp, Say, Step, WaitFor, WaitForHangUp
from voicebot.sandbox.carrier import Phone
from voicebot.sandbox.exotel import ExotelMisbehaviour
from voicebot.sandbox.vendors.script import Answer

GREETING = "Hello, this is Acme."
CONNECTING = "I connect you with the branch."


@pytest.fixture(params=["twilio", "exotel"])
async def line(request: pytest.FixtureRequest, dsn: str, tmp_path: Path) -> AsyncIterator[CallHarness]:
    """Calls that a server places over each carrier."""
    async with started(dsn, tmp_path, VOICEBOT_DISPATCH="on", EXOTEL_FLOW_ID="1") as it:
        yield it.on(request.param)


@pytest.mark.parametrize("line", ["twilio", pytest.param("exotel", marks=pytest.mark.long)], indirect=True)
async def test_a_lead_is_dialled_until_the_person_answers(line: CallHarness) -> None:
    """The line is busy, so the lead is dialled again; then the person hears their greeting and talks."""
    phone = new_e164()
    person = line.person(hear(), Say(text=OPEN), hear(), HangUp())
    line.carrier.phones[phone] = Phone(outcome="busy")
    agent = await line.agent(
        "Reminder", "Acme is open from eight to five.", HIGH,
        greeting={"text": "Hello {{ customer }}, this is Acme."},
        variables=[{"name": "customer", "required": True}],
        outbound={"window": ALL_DAY, "retry": {"busy": 1000}},
    )  # fmt: skip
    number = await create(line.api, "/numbers", {"e164": new_e164(), "carrier": line.carrier_name})
    body = {
        "phone": phone, "number_id": number["id"], "template_id": agent["id"], "payload": {"customer": "Ada"},
    }  # fmt: skip
    lead = await create(line.api, "/leads", body)
    await until(line, lead, attempts=1, status="queued", outcome="busy")
    line.carrier.phones[phone] = Phone(after_ms=50, person=person)
    done = await until(line, lead, status="finished")

    assert (done["outcome"], done["attempts"], len(done["call_ids"])) == ("answered", 2, 2)
    [first, second] = [(await line.api.get(f"/calls/{each}")).json() for each in done["call_ids"]]
    assert (first["end_reason"], first["answered_at"]) == ("busy", None)
    assert (second["direction"], second["ended_by"]) == ("outbound", "caller")
    rows = (await line.api.get(f"/calls/{second['id']}/transcript")).json()["items"]
    assert [row["text"] for row in rows][:2] == ["Hello Ada, this is Acme.", OPEN]
    assert await line.leads_of_greetings() == {UUID(done["id"])}  # its audio goes with the payload
    assert [call.complaints for call in line.carrier.calls.values()] == [(), ()]


@pytest.mark.long
async def test_a_call_that_was_dialled_is_transferred(line: CallHarness) -> None:
    """The person is connected with the declared number, as one who has called us."""
    phone, branch = new_e164(), new_e164()
    person = line.person(hear(), Say(text=BILL), hear(), WaitForHangUp(timeout_ms=40_000))
    line.carrier.phones[phone] = Phone(after_ms=50, person=person)
    line.carrier.phones[branch] = Phone(after_ms=50, talk_ms=300)
    wanted = ("transfer_to_number", {"destination": "branch"})
    line.sandbox.script.answer(Answer(text=CONNECTING, calls=[wanted]), user=BILL)
    call, _ = await dialled(
        line,
        phone,
        greeting={"text": GREETING},
        functions=[{"type": "builtin", "name": "transfer_to_number"}],
        destinations=[{"name": "branch", "number": branch}],
    )
    record = await over(line, call)
    connected = [event.data for event in call.events if event.name in ("dial.bridged", "connected")]
    assert [data.get("number", data.get("to")) for data in connected] == [branch]
    assert (record["direction"], record["ended_by"]) == ("outbound", "agent")
    assert record["end_reason"] == "transferred"
    assert call.complaints == ()
    if line.carrier_name == "exotel":
        assert call.asked == ("voice 200", "to-person 200", "connect 200", "again 302")


@pytest.mark.long
async def test_the_stream_of_a_call_that_was_dialled_is_opened_again(line: CallHarness) -> None:
    """A stream that is lost leads back to the same agent."""
    phone, paused, lost = new_e164(), asyncio.Event(), asyncio.Event()
    pause = WaitFor(event=lost, timeout_ms=30_000)

    def on_step(step: Step) -> None:
        if step is pause:
            paused.set()

    person = line.person(hear(), pause, hear(), Say(text=BILL), hear(), HangUp(), on_step=on_step)
    line.carrier.phones[phone] = Phone(after_ms=50, person=person)
    call, _ = await dialled(line, phone, greeting={"text": GREETING})
    async with asyncio.timeout(30):
        await paused.wait()
    call.stream.drop()
    lost.set()
    record = await over(line, call)
    assert person.outcome.ok, person.outcome.failure
    assert (record["resumes"], record["ended_by"], len(call.streams)) == (1, "caller", 2)
    assert call.complaints == ()
    if line.carrier_name == "exotel":
        assert call.asked[:4] == ("voice 200", "to-person 302", "again 200", "voice 200")


@pytest.mark.parametrize("line", ["exotel", pytest.param("twilio", marks=pytest.mark.long)], indirect=True)
async def test_a_call_that_was_cancelled_while_it_rang_ends_unheard(line: CallHarness) -> None:
    """Twilio cancels it; Exotel rings on, and the call is ended as soon as the person answers."""
    phone, picked_up = new_e164(), asyncio.Event()
    person = line.person(WaitForHangUp(timeout_ms=20_000))
    line.carrier.phones[phone] = Phone(after_ms=25_000, person=person)
    if line.carrier_name == "exotel":
        line.carrier.unusual_dialled = ExotelMisbehaviour(picked_up=picked_up)
    call, lead = await dialled(line, phone, greeting={"text": GREETING})
    await cancelled_unheard(line, call, lead, picked_up)


@pytest.mark.long
@pytest.mark.parametrize("line", ["exotel"], indirect=True)
@pytest.mark.parametrize("action", ["message", "continue"])
async def test_a_machine_that_the_flow_has_reached_is_known_by_its_words(
    line: CallHarness, action: str
) -> None:
    """The stream's end is the call's: the flow asks again, and is not led back to the agent."""
    phone, beep = new_e164(), "Please leave a message after the beep."
    rest = hear() if action == "continue" else WaitForHangUp(timeout_ms=40_000)
    machine = line.person(hear(), Say(text=beep), rest, HangUp())
    line.carrier.phones[phone] = Phone(after_ms=50, person=machine)
    agent = await line.agent(
        greeting={"text": GREETING},
        outbound={
            "window": ALL_DAY, "retry": {"voicemail": 3_600_000},
            "voicemail": {"action": action, "message": "Please call Acme."},
        },
    )  # fmt: skip
    number = await create(line.api, "/numbers", {"e164": new_e164(), "carrier": line.carrier_name})
    body = {"phone": phone, "number_id": number["id"], "template_id": agent["id"]}
    lead = await create(line.api, "/leads", body)
    is_left = action != "continue"
    done = await until(
        line, lead, **({"status": "queued", "outcome": "voicemail"} if is_left else {"status": "finished"})
    )
    record = (await line.api.get(f"/calls/{done['call_ids'][0]}")).json()
    assert (record["end_reason"], record["answered_by"]) == ("voicemail" if is_left else "hangup", "machine")
    events = (await line.api.get(f"/calls/{record['id']}/events")).json()["items"]
    detected = [event["data"] for event in events if event["type"] == "machine.detected"]
    assert detected == [{"source": "conversation", "action": action}]
    rows = (await line.api.get(f"/calls/{record['id']}/transcript")).json()["items"]
    assert (rows[-1]["text"] == "Please call Acme.") is (action == "message")
    [call] = line.carrier.calls.values()
    assert call.complaints == ()
    assert call.asked == (("voice 200", "to-person 302", "again 302") if is_left else ("voice 200",)), (
        call.asked
    )
