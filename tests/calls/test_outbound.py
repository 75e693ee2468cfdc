"""Dialled leads whose calls end before a conversation, over the carrier's own protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.server_fixture import create, new_e164
from tests.calls.dialling import until
from tests.calls.harness import CallHarness, hear, started
from voicebot.sandbox.caller import Say, WaitForHangUp
from voicebot.sandbox.carrier import Phone


@pytest.fixture
async def dialling(dsn: str, tmp_path: Path) -> AsyncIterator[CallHarness]:
    """A harness whose server dials leads."""
    async with started(dsn, tmp_path, VOICEBOT_DISPATCH="on") as it:
        yield it


async def test_the_kill_switch_ends_what_rings(dialling: CallHarness) -> None:
    """A call that rings is hung up, and no other is placed until the switch is off."""
    phone = new_e164()
    dialling.carrier.phones[phone] = Phone(after_ms=100_000)
    agent = await dialling.agent(
        outbound={"window": {"from": "00:00", "to": "24:00"}, "retry": {"no_answer": 1000}}
    )
    number = await create(dialling.api, "/numbers", {"e164": new_e164()})
    lead = await create(
        dialling.api, "/leads", {"phone": phone, "number_id": number["id"], "template_id": agent["id"]}
    )
    await until(dialling, lead, status="dialing")
    async with asyncio.timeout(60):
        while not dialling.carrier.calls:
            await asyncio.sleep(0.02)
    await dialling.api.post("/dispatch/kill-switch")
    [call] = dialling.carrier.calls.values()
    async with asyncio.timeout(60):
        await call.ended()
    await until(dialling, lead, status="queued")
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
    waiting = await until(dialling, lead, status="queued", outcome="voicemail")
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
    waiting = await until(exotel, lead, status="queued", outcome="voicemail")
    call = (await exotel.api.get(f"/calls/{waiting['call_ids'][0]}")).json()
    assert (call["ended_by"], call["end_reason"], call["answered_by"]) == ("system", "voicemail", "machine")
    rows = (await exotel.api.get(f"/calls/{call['id']}/transcript")).json()["items"]
    assert (rows[-1]["text"] == "Please call Acme.") is (action == "message")
