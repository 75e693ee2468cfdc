"""What a process learns of the transfers of a call whose process was lost."""

from __future__ import annotations

from uuid import UUID

import pytest

from db import events, legs
from db.events import EventRecord
from tests.db.seed import SeededAccount
from tests.handoffs.exchange import ORIGIN, PHONE, World, make_world
from tests.handoffs.fixtures import HandoffEnvironment, ManualClock
from voicebot.call.resume import CALLING, NOT_TRANSFERRED, ResumeState, load_resume_state

DESTINATION = "front_desk"
LOST = NOT_TRANSFERRED.format(outcome="process_lost")


@pytest.fixture
async def bridge(env: HandoffEnvironment, world: SeededAccount, clock: ManualClock) -> World:
    """A caller with the agent."""
    return await make_world(env, world, clock)


async def record(bridge: World, type_: str, **data: object) -> None:
    """Record an event of the call."""
    bridge.clock.advance(seconds=1)
    call = await bridge.call()
    await events.append(bridge.database, EventRecord.unnumbered(call, type_, data, bridge.clock.now()))


async def request(bridge: World, *, status: str = "ok") -> None:
    """The model asks for a transfer."""
    name = "transfer_to_number"
    await record(bridge, "function.called", name=name, arguments={"destination": DESTINATION})
    await record(bridge, "function.returned", name=name, status=status, duration_ms=1)


async def call_destination(bridge: World) -> UUID:
    """The destination is called."""
    leg_id = await bridge.bridge.dial_destination(await bridge.call(), DESTINATION, PHONE, ORIGIN)
    assert leg_id is not None
    await bridge.settle()
    return leg_id


async def resumed(bridge: World) -> tuple[ResumeState, list[str]]:
    """The state that the call is resumed with, and what the agent is told."""
    past = await load_resume_state(bridge.database, await bridge.call(), bridge.clock.now())
    return past, [message["content"] for message in past.said]


async def test_a_process_that_is_lost_before_a_destination_is_called(bridge: World) -> None:
    """The agent is told that the caller was not connected, and the call has an event of it to come."""
    await request(bridge)
    past, told = await resumed(bridge)
    assert (past.lost_transfer, past.called) == (DESTINATION, None)
    assert told == [LOST]
    await record(bridge, "transfer.failed", destination=DESTINATION, outcome="process_lost")
    past, told = await resumed(bridge)
    assert past.lost_transfer is None
    assert told == [LOST]


async def test_a_transfer_that_was_refused_is_not_lost(bridge: World) -> None:
    """The model was told of a refusal; a later request is another one."""
    await request(bridge, status="failed")
    past, told = await resumed(bridge)
    assert (past.called, past.lost_transfer, told) == (None, None, [])


async def test_a_destination_that_is_called_while_the_process_is_lost(bridge: World) -> None:
    """The next process knows which destination the carrier calls; an earlier refusal is reported as one."""
    await request(bridge)
    leg_id = await call_destination(bridge)
    past, told = await resumed(bridge)
    assert (past.called, past.lost_transfer) == ((leg_id, DESTINATION), None)
    assert told == [CALLING.format(name=DESTINATION)]
    bridge.exchange.end(bridge.operator, "busy")
    await bridge.deliver()
    past, told = await resumed(bridge)
    assert (past.called, past.lost_transfer) == (None, None)
    assert told == [NOT_TRANSFERRED.format(outcome="busy")]


async def test_a_destination_that_has_accepted_is_not_called_any_more(bridge: World) -> None:
    """The caller spoke with a person there, and the agent is told that, not that they are called."""
    await request(bridge)
    leg_id = await call_destination(bridge)
    await bridge.deliver()
    bridge.exchange.answer(bridge.operator)
    await bridge.deliver()
    bridge.exchange.press(bridge.operator, "1")
    await bridge.deliver()
    bridge.exchange.press(bridge.operator, "*")
    await bridge.deliver()
    assert (await legs.get(bridge.database, leg_id)).result == "returned"
    past, told = await resumed(bridge)
    assert (past.called, past.lost_transfer, len(told)) == (None, None, 1)
