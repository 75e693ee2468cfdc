"""The bridge by telephone: every way in which a leg ends, with a scripted carrier and virtual time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest

from db import events, legs, users
from db.legs import LegRecord
from telephony.webhook import EndReason
from tests.db.seed import SeededAccount
from tests.handoffs.exchange import (
    ORIGIN,
    PHONE,
    Exchange,
    Killed,
    Line,
    World,
    make_world,
    over,
    refusal,
    status_of,
)
from tests.handoffs.fixtures import HandoffEnvironment, ManualClock
from voicebot.handoffs.bridge import NotDialable
from voicebot.handoffs.leg_reports import SWEEP_S
from voicebot.handoffs.supervision import Supervision
from voicebot.handoffs.transitions import StaleClaim


@pytest.fixture
async def bridge(env: HandoffEnvironment, world: SeededAccount, clock: ManualClock) -> World:
    """A caller with the agent, and an operator with a telephone."""
    return await make_world(env, world, clock)


async def with_agent(bridge: World) -> None:
    """Check that the caller is with the agent and no call to an operator is left."""
    await bridge.pass_time(2)
    assert bridge.caller.place == "agent"
    assert (await bridge.call()).status == "in_progress"
    assert not [line for line in bridge.exchange.lines_of("operator") if line.is_live]


async def test_key_1_connects_caller_and_operator(bridge: World) -> None:
    """Both are in the conference; the handoff is bridged, and the call is the carrier's."""
    await bridge.bridged()
    assert await bridge.told() == [
        ("dialing", None),
        ("ringing", None),
        ("accepted", None),
        ("bridged", None),
    ]
    assert (await bridge.handoff()).state == "bridged"
    assert (await bridge.call()).status == "transferring"
    await bridge.pass_time(60)
    assert (bridge.operator.place, bridge.caller.place) == ("room", "room")


async def test_acceptance_over_the_api_connects_them(bridge: World) -> None:
    """An operator who hears the whisper accepts over the API; repeating it changes nothing."""
    line = await bridge.whispering()
    await bridge.accept()
    await bridge.accept()
    await bridge.deliver()
    assert (line.place, bridge.caller.place) == ("room", "room")
    assert (await bridge.handoff()).state == "bridged"


async def test_a_telephone_that_rings_cannot_be_accepted(bridge: World) -> None:
    """Before a person has answered, the acceptance over the API is refused: it may be a voicemail."""
    await bridge.ringing()
    with pytest.raises(NotDialable):
        await bridge.accept()
    assert bridge.caller.place == "agent"


@pytest.mark.parametrize(
    ("reason", "cause"), [("busy", "busy"), ("no_answer", "no_answer"), ("failed", "carrier_error")]
)
async def test_a_telephone_that_is_not_answered(bridge: World, reason: EndReason, cause: str) -> None:
    """The event has the cause; the operator keeps the claim, and the caller stays with the agent."""
    line = await bridge.ringing()
    bridge.exchange.end(line, reason)
    await bridge.deliver()
    assert (await bridge.told())[-1] == ("declined", cause)
    assert ((await bridge.handoff()).state, (await bridge.handoff()).cause) == ("claimed", cause)
    await with_agent(bridge)


async def test_voicemail_cannot_accept(bridge: World) -> None:
    """A machine that answers is hung up on without a whisper."""
    line = await bridge.ringing()
    bridge.exchange.answer(line, "machine")
    await bridge.deliver()
    assert (await bridge.told())[-1] == ("declined", "voicemail")
    await with_agent(bridge)


async def test_another_key_declines(bridge: World) -> None:
    """The handoff goes back to the queue and is not offered to the operator again."""
    line = await bridge.whispering()
    bridge.exchange.press(line, "2")
    await bridge.deliver()
    assert (await bridge.told())[-1] == ("declined", "declined")
    assert (await bridge.handoff()).state == "queued"
    await bridge.env.scheduler.run_once()
    assert (await bridge.handoff()).state == "queued"
    await with_agent(bridge)


async def test_hanging_up_in_the_whisper_declines(bridge: World) -> None:
    """An operator who hangs up in the whisper has declined."""
    line = await bridge.whispering()
    bridge.exchange.end(line, "completed")
    await bridge.deliver()
    assert (await bridge.told())[-1] == ("declined", "declined")
    await with_agent(bridge)


async def test_no_key_is_a_timeout(bridge: World) -> None:
    """An operator who presses no key is hung up on."""
    line = await bridge.whispering()
    bridge.exchange.press(line, None)
    await bridge.deliver()
    assert (await bridge.told())[-1] == ("declined", "timeout")
    await with_agent(bridge)


async def test_a_whisper_without_an_end_is_a_timeout(bridge: World) -> None:
    """If the carrier reports neither a key nor the end of the whisper, the leg ends at its deadline."""
    await bridge.whispering()
    await bridge.pass_time(31)
    assert (await bridge.told())[-1] == ("declined", "timeout")
    await with_agent(bridge)


async def test_a_carrier_that_refuses_to_dial(bridge: World) -> None:
    """The leg ends with carrier_error; the operator can have their telephone called again."""
    bridge.exchange.faults.append(("dial", refusal(), False))
    await bridge.claim()
    await bridge.dial()
    assert (await bridge.told())[-1] == ("declined", "carrier_error")
    await bridge.dial()
    await bridge.deliver()
    assert (await bridge.told())[-1] == ("ringing", None)


async def test_a_lost_answer_of_the_carrier(bridge: World) -> None:
    """A call that was placed although the answer was lost is found at the carrier and ended within 1 s."""
    bridge.exchange.faults.append(("dial", refusal(uncertain=True), True))
    await bridge.claim()
    await bridge.dial()
    bridge.exchange.pending.clear()
    assert (await bridge.told())[-1] == ("declined", "carrier_error")
    await bridge.pass_time(1)
    assert not bridge.operator.is_live


async def test_a_process_that_dies_as_it_dials(bridge: World) -> None:
    """A call whose id was never stored is known by its first report, and continues."""
    bridge.exchange.faults.append(("dial", Killed(), True))
    await bridge.claim()
    await bridge.dial()
    bridge.start()
    await bridge.deliver()
    bridge.exchange.answer(bridge.operator)
    await bridge.deliver()
    bridge.exchange.press(bridge.operator, "1")
    await bridge.deliver()
    assert (await bridge.handoff()).state == "bridged"


async def test_a_process_that_dies_before_it_dials(bridge: World) -> None:
    """Nothing is reported: the leg ends with process_lost."""
    bridge.exchange.faults.append(("dial", Killed(), False))
    await bridge.claim()
    await bridge.dial()
    await bridge.pass_time(11)
    assert (await bridge.told())[-1] == ("declined", "process_lost")
    assert (await bridge.handoff()).state == "claimed"


@pytest.mark.parametrize("done", [False, True])
async def test_a_process_that_dies_as_it_connects(bridge: World, *, done: bool) -> None:
    """The operator's call ends without instructions; the caller is with the agent again."""
    line = await bridge.whispering()
    bridge.exchange.faults.append(("join", Killed(), done))
    bridge.exchange.press(line, "1")
    with pytest.raises(Killed):
        await bridge.deliver()
    bridge.exchange.end(line, "completed")  # the carrier got no answer to its request
    bridge.start()
    await bridge.deliver()
    await with_agent(bridge)
    assert (await bridge.told())[-1] == ("declined", "process_lost")
    assert (await bridge.handoff()).state == "claimed"


@pytest.mark.parametrize("second", ["refused", "killed"])
@pytest.mark.parametrize("first", ["refused", "killed"])
async def test_a_way_back_that_fails_twice(bridge: World, first: str, second: str) -> None:
    """A caller alone in the conference is led back within 2 s, although two attempts fail or die."""
    line = await bridge.whispering()
    bridge.exchange.faults.append(("join", Killed(), True))
    bridge.exchange.press(line, "1")
    with pytest.raises(Killed):
        await bridge.deliver()
    for failure in (first, second):
        bridge.exchange.faults.append(("redirect", refusal() if failure == "refused" else Killed(), False))
    bridge.start()
    alone_since = bridge.clock.now()
    bridge.exchange.end(line, "completed")
    await bridge.deliver()
    while bridge.caller.place != "agent" and bridge.clock.now() - alone_since < timedelta(seconds=10):
        await bridge.pass_time(SWEEP_S)
    assert bridge.exchange.faults == []
    assert bridge.clock.now() - alone_since <= timedelta(seconds=2)


@pytest.mark.parametrize("uncertain", [False, True])
async def test_a_carrier_that_does_not_connect(bridge: World, *, uncertain: bool) -> None:
    """A refused or lost request ends the leg with carrier_error, and the caller is with the agent."""
    line = await bridge.whispering()
    bridge.exchange.faults.append(("join", refusal(uncertain=uncertain), uncertain))
    bridge.exchange.press(line, "1")
    await bridge.deliver()
    assert ("declined", "carrier_error") in await bridge.told()
    assert (await bridge.handoff()).state == "claimed"
    await with_agent(bridge)


async def test_the_operator_hangs_up(bridge: World) -> None:
    """The handoff is resolved, and the caller is hung up on."""
    line = await bridge.bridged()
    bridge.exchange.end(line, "completed")
    await bridge.deliver()
    handoff, call = await bridge.handoff(), await bridge.call()
    assert (handoff.state, handoff.resolved_by) == ("resolved", bridge.user_id)
    assert (await bridge.told())[-1][0] == "resolved"
    assert (call.status, call.ended_by, call.end_reason) == ("ended", "operator", "handoff_resolved")
    assert not bridge.caller.is_live


async def test_the_key_that_gives_the_caller_back(bridge: World) -> None:
    """The operator presses the star: the caller is with the agent again, and the handoff has ended."""
    line = await bridge.bridged()
    bridge.exchange.press(line, "*")
    await bridge.deliver()
    assert (await bridge.told())[-1][0] == "returned"
    assert (await bridge.handoff()).state == "resolved"
    assert (await bridge.call()).resumes == 1
    await with_agent(bridge)
    assert bridge.exchange.redirects == []


async def test_the_caller_comes_back_before_the_key_is_reported(bridge: World) -> None:
    """The carrier asks for the caller first: the operator's live call says that they pressed the key."""
    line = await bridge.bridged()
    bridge.exchange.press(line, "*")
    bridge.exchange.pending.sort(key=lambda report: report[0] != "resume")
    await bridge.deliver()
    assert (await bridge.told())[-1][0] == "returned"
    await with_agent(bridge)


async def test_return_over_the_api(bridge: World) -> None:
    """The caller is with the agent again, the operator's call ends; repeating it changes nothing."""
    line = await bridge.bridged()
    await bridge.give_back()
    await bridge.give_back()
    await bridge.deliver()
    assert (await bridge.told())[-1][0] == "returned"
    assert not line.is_live
    await with_agent(bridge)


@pytest.mark.parametrize("stage", ["ringing", "whispering", "bridged"])
async def test_the_caller_hangs_up(bridge: World, stage: str) -> None:
    """The operator's call ends within a second, whatever it was doing."""
    line = await getattr(bridge, stage)()
    bridge.exchange.end(bridge.caller, "completed")
    await bridge.deliver()
    assert not line.is_live
    last = (await bridge.told())[-1]
    assert last == (("resolved" if stage == "bridged" else "declined"), "caller_left")
    assert (await bridge.handoff()).state == ("resolved" if stage == "bridged" else "claimed")


@pytest.mark.parametrize("stage", ["ringing", "whispering", "bridged"])
async def test_the_caller_hangs_up_and_the_process_is_lost(bridge: World, stage: str) -> None:
    """No report leads to the end of the leg: the check in any process finds it within a second."""
    line = await getattr(bridge, stage)()
    bridge.exchange.end(bridge.caller, "completed")
    bridge.exchange.pending.clear()
    await bridge._finish("caller", "hangup")  # noqa: SLF001 - a process that dies behind this
    bridge.start()
    await bridge.pass_time(1)
    assert line.over_at is not None
    assert bridge.caller.over_at is not None
    assert line.over_at - bridge.caller.over_at <= timedelta(seconds=1)


async def test_the_caller_has_left_when_the_operator_accepts(bridge: World) -> None:
    """The carrier refuses to lead the caller: the operator is not left in an empty conference."""
    line = await bridge.whispering()
    bridge.exchange.faults.append(("join", over(), False))
    bridge.exchange.press(line, "1")
    await bridge.deliver()
    assert ("declined", "caller_left") in await bridge.told()
    assert not line.is_live


async def test_reports_that_are_repeated(bridge: World) -> None:
    """Each report delivered three times gives the same events as once."""
    await bridge.claim()
    await bridge.dial()
    await bridge.deliver(times=3)
    bridge.exchange.answer(bridge.operator)
    await bridge.deliver(times=3)
    bridge.exchange.press(bridge.operator, "1")
    await bridge.deliver(times=3)
    bridge.exchange.end(bridge.operator, "completed")
    await bridge.deliver(times=3)
    events = [name for name, _ in await bridge.told()]
    assert events == ["dialing", "ringing", "accepted", "bridged", "resolved"]


async def test_reports_in_the_opposite_order(bridge: World) -> None:
    """That it rings is reported once, although the carrier's reports come last to first."""
    await bridge.claim()
    await bridge.dial()
    bridge.exchange.answer(bridge.operator)
    bridge.exchange.pending.reverse()
    await bridge.deliver()
    assert [name for name, _ in await bridge.told()] == ["dialing", "ringing"]
    assert bridge.operator.place == "whisper"


async def test_a_late_report_of_a_leg_that_has_ended(bridge: World) -> None:
    """A call that is reported to ring after its leg has ended is hung up on."""
    bridge.exchange.faults.append(("dial", refusal(uncertain=True), True))
    await bridge.claim()
    await bridge.dial()
    line = bridge.operator
    await bridge.report(line, status_of(line, "ringing", "ringing"))
    assert not line.is_live


async def test_a_released_claim_ends_its_leg(bridge: World) -> None:
    """An operator who releases the claim while their telephone rings is not called any longer."""
    line = await bridge.ringing()
    await bridge.env.service.release(bridge.env.account_id, bridge.handoff_id, bridge.user_id)
    await bridge.pass_time(1)
    assert not line.is_live
    assert (await bridge.handoff()).state == "queued"


async def test_resolving_a_bridged_handoff_ends_both_calls(bridge: World) -> None:
    """The operator resolves over the API while they are connected: both calls end."""
    line = await bridge.bridged()
    service, account = bridge.env.service, bridge.env.account_id
    await service.resolve(account, bridge.handoff_id, bridge.user_id, resolution="done")
    await bridge.pass_time(2)
    assert not line.is_live
    assert not bridge.caller.is_live


async def test_a_bridge_of_which_nothing_is_reported(bridge: World) -> None:
    """All reports of the end are lost: the carrier is asked, and the handoff is resolved."""
    line = await bridge.bridged()
    bridge.exchange.end(line, "completed")
    bridge.exchange.end(bridge.caller, "completed")
    bridge.exchange.pending.clear()
    await bridge.pass_time(35)
    assert (await bridge.handoff()).state == "resolved"
    assert (await bridge.call()).status == "ended"


OTHER_PHONE = "+14155550178"


async def reassigned(bridge: World) -> UUID:
    """A supervisor gives the handoff to another operator, who has a telephone too."""
    env = bridge.env
    other, boss = await env.operator(), await env.user("admin")
    await users.set_phone(bridge.database, env.account_id, other, OTHER_PHONE)
    supervision = Supervision(bridge.database, bridge.clock, env.service)
    await supervision.reassign(env.account_id, bridge.handoff_id, boss, other, supervises=True)
    return other


@pytest.mark.parametrize("stage", ["ringing", "whispering"])
async def test_a_handoff_is_reassigned_while_a_telephone_rings(bridge: World, stage: str) -> None:
    """The first operator's call ends, the other one's telephone rings at once and can accept."""
    line = await getattr(bridge, stage)()
    other = await reassigned(bridge)
    await bridge.bridge.dial(bridge.env.account_id, bridge.handoff_id, other, ORIGIN)
    await bridge.settle()
    assert not line.is_live
    await bridge.deliver()
    assert len([each for each in bridge.exchange.lines_of("operator") if each.is_live]) == 1
    bridge.exchange.answer(bridge.operator)
    await bridge.deliver()
    bridge.exchange.press(bridge.operator, "1")
    await bridge.deliver()
    handoff = await bridge.handoff()
    assert (handoff.state, handoff.claimed_by) == ("bridged", other)
    assert bridge.caller.place == "room"


async def test_a_handoff_is_reassigned_while_its_caller_is_connected(bridge: World) -> None:
    """The operator who had accepted is not connected: the caller stays, and the other holds the claim."""
    line = await bridge.whispering()
    leg = await bridge.leg(line)
    assert await bridge.bridge.begin(leg)
    other = await reassigned(bridge)
    assert not await bridge.bridge.connect(leg)
    await with_agent(bridge)
    handoff = await bridge.handoff()
    assert (handoff.state, handoff.claimed_by) == ("claimed", other)


async def destination(bridge: World) -> LegRecord:
    """A destination is called for the caller; deliver that it rings."""
    call = await bridge.call()
    leg_id = await bridge.bridge.dial_destination(call, "front_desk", PHONE, ORIGIN)
    assert leg_id is not None
    await bridge.settle()
    await bridge.deliver()
    return await legs.get(bridge.database, leg_id)


async def transfers(bridge: World) -> list[tuple[str, str | None]]:
    """The events of the caller's call about its destination: type and outcome."""
    found = await events.of_call(bridge.database, bridge.env.account_id, bridge.call_id)
    return [(each.type, each.data.get("outcome")) for each in found if each.type.startswith("transfer.")]


async def test_a_destination_that_accepts(bridge: World) -> None:
    """Key 1 connects the caller; a destination that hangs up ends the call, which had one leg only."""
    await destination(bridge)
    again = await bridge.bridge.dial_destination(await bridge.call(), "front_desk", PHONE, ORIGIN)
    assert again is None
    line = bridge.operator
    bridge.exchange.answer(line)
    await bridge.deliver()
    bridge.exchange.press(line, "1")
    await bridge.deliver()
    assert (line.place, bridge.caller.place) == ("room", "room")
    bridge.exchange.end(line, "completed")
    await bridge.deliver()
    assert not bridge.caller.is_live
    assert await transfers(bridge) == [("transfer.connected", None)]


async def test_a_destination_gives_the_caller_back(bridge: World) -> None:
    """The star leads the caller back to the agent, and the leg to its end."""
    leg = await destination(bridge)
    bridge.exchange.answer(bridge.operator)
    await bridge.deliver()
    bridge.exchange.press(bridge.operator, "1")
    await bridge.deliver()
    bridge.exchange.press(bridge.operator, "*")
    await bridge.deliver()
    await with_agent(bridge)
    assert (await legs.get(bridge.database, leg.id)).result == "returned"


@pytest.mark.parametrize(
    ("does", "cause"),
    [
        (lambda exchange, line: exchange.end(line, "busy"), "busy"),
        (lambda exchange, line: exchange.end(line, "no_answer"), "no_answer"),
        (lambda exchange, line: exchange.answer(line, "machine"), "voicemail"),
    ],
)
async def test_a_destination_that_does_not_accept(
    bridge: World, does: Callable[[Exchange, Line], None], cause: str
) -> None:
    """The caller has not left the agent; the leg and an event of the call say why."""
    leg = await destination(bridge)
    does(bridge.exchange, bridge.operator)
    await bridge.deliver()
    await with_agent(bridge)
    assert (await legs.get(bridge.database, leg.id)).cause == cause
    assert await transfers(bridge) == [("transfer.failed", cause)]
    assert (await bridge.call()).resumes == 0


async def test_the_caller_hangs_up_while_a_destination_is_called(bridge: World) -> None:
    """The call to the destination ends within a second."""
    await destination(bridge)
    bridge.exchange.end(bridge.caller, "completed")
    await bridge.deliver()
    await bridge.pass_time(1)
    assert not bridge.operator.is_live


async def test_only_the_holder_dials(bridge: World) -> None:
    """Another user, or an earlier claim, has no telephone called."""
    await bridge.claim()
    other = await bridge.env.operator()
    account, handoff_id = bridge.env.account_id, bridge.handoff_id
    with pytest.raises(StaleClaim):
        await bridge.bridge.dial(account, handoff_id, other, "https://bot.example.com")
    with pytest.raises(StaleClaim):
        await bridge.bridge.dial(account, handoff_id, bridge.user_id, "https://bot.example.com", epoch=7)
    await bridge.dial()
    await bridge.dial()
    assert len(bridge.exchange.lines_of("operator")) == 1


def test_an_exchange_has_no_faults(clock: ManualClock) -> None:
    """A scripted carrier that nothing was ordered from does everything."""
    assert Exchange(clock).faults == []
