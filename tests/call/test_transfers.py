"""Transfers that fail: what the agent is told, in virtual time."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from db.ids import new_id
from tests.call.virtual_call import FILLERS, Plan, VirtualCall
from tests.call.virtual_time import START_S, VirtualLoop
from voicebot.call.person.transfer import CARRIER_ERROR, FAILED
from voicebot.call.resume import CALLING, CalledDestination, ResumeState

SAID = "I connect you with the front desk."
SORRY = "Nobody answers there."
LEG = new_id()
TRANSFER = Plan(text=SAID, calls=[("transfer_to_number", {"destination": "front_desk"})])


def desk(mode: str) -> dict[str, Any]:
    """An agent who may connect callers with one number."""
    return {
        "functions": [{"type": "builtin", "name": "transfer_to_number"}],
        "destinations": [{"name": "front_desk", "number": "+14155550100", "mode": mode}],
        "fillers": list(FILLERS),
    }


async def refuses(*_: str) -> None:
    """A carrier that does not dial."""


async def dials(*_: str) -> UUID:
    """A carrier that dials."""
    return LEG


async def does_not_transfer(_: str) -> str:
    return CARRIER_ERROR


def not_accepted(call: VirtualCall, cause: str) -> None:
    """The queue reports that nobody accepted the caller."""

    async def report() -> None:
        call.session.transfer.not_accepted(LEG, cause)

    call.do(report())


def last_message(call: VirtualCall) -> str:
    """What the model was told last before its latest answer."""
    return str(call.script.asked[-1].messages[-1]["content"])


@pytest.mark.parametrize("mode", ["cold", "attended"])
def test_a_carrier_that_refuses_a_transfer(loop: VirtualLoop, mode: str) -> None:
    """The agent is told and continues, and the call has an event for it."""
    call = VirtualCall(loop, desk=desk(mode), transfer=does_not_transfer, dial=refuses)
    call.run(1)
    call.plan(TRANSFER, Plan(text=SORRY))
    call.say("The front desk, please.")
    call.run(8)
    assert call.heard()[1:] == [SAID, SORRY]
    assert last_message(call) == FAILED
    assert [event.data for event in call.events("transfer.failed")] == [
        {"destination": "front_desk", "outcome": "carrier_error"}
    ]


@pytest.mark.parametrize("delay_s", [0.3, 4.0])
def test_a_destination_that_does_not_accept(loop: VirtualLoop, delay_s: float) -> None:
    """However slow the model is, the caller hears the agent within 2 s of the refusal."""
    call = VirtualCall(loop, desk=desk("attended"), dial=dials, transfer=does_not_transfer)
    call.run(1)
    call.plan(TRANSFER)
    call.say("The front desk, please.")
    call.run(8)
    at_ms = call.media.now_ms() - START_S * 1000
    call.plan(Plan(text=SORRY, delay_s=delay_s))
    not_accepted(call, "busy")
    call.run(10)
    said = [it for it in call.utterances if it.started_ms > at_ms]
    assert said[-1].heard_text == SORRY
    assert said[0].started_ms - at_ms <= 2000
    assert "front_desk (busy)" in last_message(call)


def test_a_process_that_is_lost_while_a_destination_is_called(loop: VirtualLoop) -> None:
    """The process that resumes the call tells the agent about the dialled destination, and why it failed."""
    calling = {"role": "developer", "content": CALLING.format(name="front_desk")}
    past = ResumeState(said=[calling], called=CalledDestination(LEG, "front_desk"))
    call = VirtualCall(loop, desk=desk("attended"), dial=dials, transfer=does_not_transfer, past=past)
    call.run(3)
    assert call.script.asked[0].messages[-1]["content"] == calling["content"]
    assert call.session.transfer.is_calling
    assert call.session.waiting.hears_comfort
    call.plan(Plan(text=SORRY))
    not_accepted(call, "no_answer")
    call.run(4)
    assert "front_desk (no_answer)" in last_message(call)
    assert call.heard()[-1] == SORRY
    assert not call.session.waiting.hears_comfort


def test_a_process_that_is_lost_before_it_transfers(loop: VirtualLoop) -> None:
    """The process that resumes the call records that the transfer failed."""
    call = VirtualCall(loop, desk=desk("cold"), past=ResumeState(lost_transfer="front_desk"))
    call.run(2)
    assert [event.data for event in call.events("transfer.failed")] == [
        {"destination": "front_desk", "outcome": "process_lost"}
    ]
