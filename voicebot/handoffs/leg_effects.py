"""The effects of the stages of a leg, in the transaction of the stage.

A leg to an operator changes their handoff. A leg to a destination of a template only adds events to the call.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from db import calls, events, handoff_events, handoff_transitions, handoffs
from db.events import EventRecord
from db.handoff_transitions import Transition
from db.handoffs import HandoffRecord
from db.legs import LegRecord
from db.pool import Database, Transaction
from voicebot.handoffs import transitions
from voicebot.handoffs.call_snapshot import take_snapshot
from voicebot.handoffs.transitions import CLAIM_LEASE, LostRace
from voicebot.handoffs.whisper import WhisperText, destination_whisper, operator_whisper

CONNECTED = "transfer.connected"
FAILED = "transfer.failed"
"""The events of a call about a destination that was called for it."""


async def whisper(database: Database, leg: LegRecord) -> WhisperText:
    """The text that the person hears before they accept."""
    if leg.handoff_id is None:
        return destination_whisper(await take_snapshot(database, leg.account_id, leg.call_id, None))
    handoff = await handoffs.get(database, leg.account_id, leg.handoff_id)
    return operator_whisper(handoff, await handoffs.snapshot(database, leg.account_id, leg.handoff_id))


async def progressed(transaction: Transaction, before: LegRecord, now: datetime) -> None:
    """The telephone rings or was answered; that it rings is reported once, also if only a later state was."""
    if before.handoff_id is None or before.user_id is None:
        return
    await handoff_transitions.renew(transaction, before.account_id, before.user_id, now + CLAIM_LEASE)
    if before.state == "dialing":
        handoff = await handoffs.get(transaction, before.account_id, before.handoff_id)
        await handoff_events.append_change(transaction, handoff, "handoff.ringing", now, leg_id=before.id)


async def accepted(transaction: Transaction, leg: LegRecord, now: datetime) -> None:
    """The person accepted the caller.

    Raises:
        LostRace: the claim of the handoff has ended.
    """
    if leg.handoff_id is None:
        return
    handoff = await handoffs.get(transaction, leg.account_id, leg.handoff_id)
    if handoff.epoch != leg.epoch or handoff.state != "claimed":
        raise LostRace
    wanted = Transition(
        to="transferring", at=now, event="handoff.accepted", claimed_by=leg.user_id, leg_id=leg.id
    )
    await transitions.apply(transaction, handoff, wanted, leg.user_id)


async def bridged(transaction: Transaction, leg: LegRecord, now: datetime) -> None:
    """The caller and the person are connected.

    Raises:
        LostRace: the handoff has changed meanwhile.
    """
    if leg.handoff_id is None:
        await _append(transaction, leg, CONNECTED, now)
        return
    handoff = await handoffs.get(transaction, leg.account_id, leg.handoff_id)
    if handoff.epoch != leg.epoch or handoff.claimed_by != leg.user_id:
        raise LostRace  # a supervisor has given it to somebody else
    wanted = Transition(to="bridged", at=now, claimed_by=leg.user_id, leg_id=leg.id)
    transitions.check(handoff, "bridged")
    await transitions.apply(transaction, handoff, wanted, leg.user_id)


async def ended(transaction: Transaction, leg: LegRecord, now: datetime) -> None:
    """The leg has ended with a result.

    Raises:
        LostRace: the handoff has changed meanwhile.
    """
    if leg.handoff_id is None or leg.user_id is None:
        if leg.result == "failed":
            await _append(transaction, leg, FAILED, now, outcome=leg.cause)
        return
    handoff = await handoffs.get(transaction, leg.account_id, leg.handoff_id)
    if handoff.claimed_by != leg.user_id or handoff.epoch != leg.epoch or handoff.ended_at is not None:
        return  # the claim has ended already, by an event of its own
    if leg.accepted_at is None and handoff.state != "claimed":
        return  # the operator has taken the caller over from a browser
    if leg.cause == "declined":
        await handoff_transitions.decline(
            transaction, leg.account_id, handoff.id, leg.user_id, reason="declined", at=now
        )
    wanted = _transition(leg, handoff, now)
    if wanted is None:
        await _report(transaction, leg, handoff, now)
    else:
        await transitions.apply(transaction, handoff, wanted, leg.user_id)


async def _report(transaction: Transaction, leg: LegRecord, handoff: HandoffRecord, now: datetime) -> None:
    """The operator keeps the claim: store and report why they were not connected."""
    cause = leg.cause or "declined"
    if cause == "caller_left":  # the handoff's cause says that already
        told: HandoffRecord | None = replace(handoff, cause=cause)
    else:
        told = await handoff_transitions.set_cause(transaction, handoff, cause)
    if told is None:
        raise LostRace
    await handoff_events.append_change(transaction, told, "handoff.declined", now, leg_id=leg.id)


def _transition(leg: LegRecord, handoff: HandoffRecord, now: datetime) -> Transition | None:
    """The transition of the handoff at the end of a leg; None: the operator keeps the claim."""
    if leg.result == "failed":
        if leg.cause == "declined":
            waiting = transitions.WAITING[handoff.intent]
            return Transition(to=waiting, at=now, event="handoff.declined", cause="declined", leg_id=leg.id)
        if handoff.state == "claimed":
            return None
        return Transition(
            to="claimed",
            at=now,
            event="handoff.declined",
            claimed_by=leg.user_id,
            lease_until=now + CLAIM_LEASE,
            cause=leg.cause,
            leg_id=leg.id,
        )
    returned = leg.result == "returned"
    return Transition(
        to="resolved",
        at=now,
        event="handoff.returned" if returned else "",
        cause="returned" if returned else leg.cause,
        resolution="The caller went back to the agent."
        if returned
        else "The operator spoke with the caller.",
        resolved_by=leg.user_id,
        leg_id=leg.id,
    )


async def _append(
    transaction: Transaction, leg: LegRecord, type_: str, now: datetime, **more: str | None
) -> None:
    call = await calls.get(transaction, leg.account_id, leg.call_id)
    data = {"destination": leg.destination, **more}
    await events.append(transaction, EventRecord.unnumbered(call, type_, data, now))
