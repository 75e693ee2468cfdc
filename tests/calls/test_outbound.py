"""Leads that are dialled over the carrier's own protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.server_fixture import create, new_e164
from tests.calls.harness import HIGH, OPEN, CallHarness, hear, started
from voicebot.sandbox.caller import HangUp, Say, WaitForHangUp
from voicebot.sandbox.carrier import Phone

GREETING = "Hello Ada, this is Acme."


@pytest.fixture
async def dialling(dsn: str, tmp_path: Path) -> AsyncIterator[CallHarness]:
    """A harness whose server dials leads."""
    async with started(dsn, tmp_path, VOICEBOT_DISPATCH="on") as it:
        yield it


async def _until(harness: CallHarness, lead: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    """The lead, once it has these members."""
    async with asyncio.timeout(40):
        while True:
            now: dict[str, Any] = (await harness.api.get(f"/leads/{lead['id']}")).json()
            if all(now[name] == value for name, value in wanted.items()):
                return now
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("carrier", ["twilio", pytest.param("exotel", marks=pytest.mark.long)])
async def test_a_lead_is_dialled_until_the_person_answers(dialling: CallHarness, carrier: str) -> None:
    """The line is busy, so the lead is dialled again; then the person hears their greeting and talks."""
    dialling = dialling.on(carrier)
    phone = new_e164()
    person = dialling.person(hear(), Say(text=OPEN), hear(), HangUp())
    dialling.carrier.phones[phone] = Phone(outcome="busy")
    agent = await dialling.agent(
        "Reminder", "Acme is open from eight to five.", HIGH,
        greeting={"text": "Hello {{ customer }}, this is Acme."},
        variables=[{"name": "customer", "required": True}],
        outbound={"window": {"from": "00:00", "to": "24:00"}, "retry": {"busy": 1000}},
    )  # fmt: skip
    number = await create(dialling.api, "/numbers", {"e164": new_e164(), "carrier": carrier})
    body = {
        "phone": phone, "number_id": number["id"], "template_id": agent["id"], "payload": {"customer": "Ada"},
    }  # fmt: skip
    lead = await create(dialling.api, "/leads", body)
    await _until(dialling, lead, attempts=1, status="queued", outcome="busy")
    dialling.carrier.phones[phone] = Phone(after_ms=50, person=person)
    done = await _until(dialling, lead, status="finished")

    assert (done["outcome"], done["attempts"], len(done["call_ids"])) == ("answered", 2, 2)
    [first, second] = [(await dialling.api.get(f"/calls/{each}")).json() for each in done["call_ids"]]
    assert (first["end_reason"], first["answered_at"]) == ("busy", None)
    assert (second["direction"], second["ended_by"]) == ("outbound", "caller")
    rows = (await dialling.api.get(f"/calls/{second['id']}/transcript")).json()["items"]
    assert [row["text"] for row in rows][:2] == [GREETING, OPEN]
    assert [call.complaints for call in dialling.carrier.calls.values()] == [(), ()]


async def test_the_kill_switch_ends_what_rings(dialling: CallHarness) -> None:
    """A call that rings is hung up, and no other is placed until the switch is off."""
    phone = new_e164()
    dialling.carrier.phones[phone] = Phone(after_ms=20_000)
    agent = await dialling.agent(
        outbound={"window": {"from": "00:00", "to": "24:00"}, "retry": {"no_answer": 1000}}
    )
    number = await create(dialling.api, "/numbers", {"e164": new_e164()})
    lead = await create(
        dialling.api, "/leads", {"phone": phone, "number_id": number["id"], "template_id": agent["id"]}
    )
    await _until(dialling, lead, status="dialing")
    async with asyncio.timeout(10):
        while not dialling.carrier.calls:
            await asyncio.sleep(0.02)
    await dialling.api.post("/dispatch/kill-switch")
    [call] = dialling.carrier.calls.values()
    async with asyncio.timeout(10):
        await call.ended()
    await _until(dialling, lead, status="queued")
    assert len(dialling.carrier.calls) == 1


@pytest.mark.long
async def test_a_machine_is_left_a_message(dialling: CallHarness) -> None:
    """The carrier reports the beep while the agent talks; it says the message, and the lead waits."""
    phone = new_e164()
    dialling.carrier.phones[phone] = Phone(is_machine=True, detected_after_ms=1500)
    agent = await dialling.agent(
        variables=[{"name": "customer", "required": True}],
        outbound={
            "window": {"from": "00:00", "to": "24:00"}, "retry": {"voicemail": 3_600_000},
            "voicemail": {"action": "message", "message": "Hello {{ customer }}, please call Acme."},
        },
    )  # fmt: skip
    number = await create(dialling.api, "/numbers", {"e164": new_e164()})
    body = {
        "phone": phone, "number_id": number["id"], "template_id": agent["id"], "payload": {"customer": "Ada"},
    }  # fmt: skip
    lead = await create(dialling.api, "/leads", body)
    waiting = await _until(dialling, lead, status="queued", outcome="voicemail")
    call = (await dialling.api.get(f"/calls/{waiting['call_ids'][0]}")).json()
    assert (call["end_reason"], call["answered_by"], call["outcome"]) == ("voicemail", "machine", "voicemail")
    recorded = (await dialling.api.get(f"/calls/{call['id']}/events")).json()["items"]
    detected = [event["data"] for event in recorded if event["type"] == "machine.detected"]
    assert detected == [{"source": "carrier", "action": "message"}]
    [dialled] = dialling.carrier.calls.values()
    assert [event.data["step"] for event in dialled.events if event.name == "order"] == ["Document"]
    assert (dialled.status, dialled.complaints) == ("completed", ())


@pytest.mark.long
@pytest.mark.parametrize("action", ["message", "hang_up"])
async def test_a_machine_at_an_exotel_line_is_known_by_its_words(dialling: CallHarness, action: str) -> None:
    """Exotel detects nothing: the message is spoken on the media stream, whose end is the call's."""
    exotel, phone, beep = dialling.on("exotel"), new_e164(), "Please leave a message after the beep."
    machine = exotel.person(hear(), Say(text=beep), WaitForHangUp(timeout_ms=40_000))
    exotel.carrier.phones[phone] = Phone(after_ms=50, person=machine)
    agent = await exotel.agent(
        greeting={"text": "Hello, this is Acme."},
        outbound={
            "window": {"from": "00:00", "to": "24:00"}, "retry": {"voicemail": 3_600_000},
            "voicemail": {"action": action, "message": "Please call Acme."},
        },
    )  # fmt: skip
    number = await create(exotel.api, "/numbers", {"e164": new_e164(), "carrier": "exotel"})
    body = {"phone": phone, "number_id": number["id"], "template_id": agent["id"]}
    lead = await create(exotel.api, "/leads", body)
    waiting = await _until(exotel, lead, status="queued", outcome="voicemail")
    call = (await exotel.api.get(f"/calls/{waiting['call_ids'][0]}")).json()
    assert (call["ended_by"], call["end_reason"], call["answered_by"]) == ("system", "voicemail", "machine")
    rows = (await exotel.api.get(f"/calls/{call['id']}/transcript")).json()["items"]
    assert (rows[-1]["text"] == "Please call Acme.") is (action == "message")
