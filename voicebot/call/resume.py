"""The state of a call before its stream was lost, read from its records.

The process that continues the call may be another one than the one that had it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from db import events, legs, routes, utterances
from db.calls import CallRecord
from db.events import EventRecord
from db.legs import LegRecord
from db.pool import Database
from db.routes import RouteRecord
from handlers.transfer_to_number import TransferToNumber
from voicebot.call.agents import BACK
from voicebot.call.dtmf import PRESSED
from voicebot.call.transcript.recorder import Seqs

TRANSFER_FAILED: Literal["transfer.failed"] = "transfer.failed"
PROCESS_LOST = "process_lost"

_ROLES = {"caller": "user", "agent": "assistant"}

SPOKE_WITH_PERSON = (
    "The caller was connected with a person for {seconds} seconds and has come back to you. You did not hear "
    "what they said to each other: ask if you need to know. Go on with the conversation; do not greet again."
)
NOT_TRANSFERRED = (
    "The caller was to be connected with another number, but that failed ({outcome}); they are with you "
    "again. Say so, and help them yourself or offer something else."
)
CALLING = (
    "{name} is being called; the caller hears a tone and stays with you until somebody there has accepted "
    "them. You may answer the caller meanwhile. Do not end the call."
)
NOT_CONNECTED = (
    "The caller was to be connected with a person, but that failed ({cause}); they are with you again. "
    "Say so, and go on."
)


class CalledDestination(NamedTuple):
    """A destination that is being called for a caller who is with the agent."""

    leg_id: UUID
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeState:
    """What happened on a call before its stream was lost.

    ``path`` lists the routes that led to the current agent, without those that ``back`` undid; that agent had
    entered the nodes ``visited``. ``variables`` are those of all agents, by ``Agent.key``; ``said`` are the
    messages of the conversation.
    """

    path: Sequence[str] = ()
    visited: Sequence[str] = ()
    variables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    said: Sequence[Any] = ()
    was_greeted: bool = True
    """Whether the caller has heard an agent; otherwise the call begins like a new one."""
    hops: int = 0
    since_answer_ms: float = 0.0
    seqs: Seqs = field(default_factory=Seqs)
    was_not_connected: bool = False
    """Whether the last thing the agent was told is that the caller was not connected with a person."""
    called: CalledDestination | None = None
    """The destination that is being called for the caller."""
    lost_transfer: str | None = None
    """The destination of a transfer that was requested and not begun."""


async def load_resume_state(database: Database, call: CallRecord, now: datetime) -> ResumeState:
    """Read the state of a call that is resumed at ``now``."""
    recorded, spoken, routed, with_people = await asyncio.gather(
        events.of_call(database, call.account_id, call.id),
        utterances.of_call(database, call.account_id, call.id),
        routes.of_call(database, call.account_id, call.id),
        legs.of_call(database, call.account_id, call.id),
    )
    said = [
        (float(u.started_ms), {"role": _ROLES[u.speaker], "content": u.heard_text or u.text})
        for u in spoken
        if u.speaker in _ROLES
    ]
    said += _notes(call, with_people)
    said += [
        ((event.at - (call.answered_at or event.at)).total_seconds() * 1000, message)
        for event in recorded
        if (message := _told_of(event)) is not None
    ]
    if (lost := _lost_transfer(recorded, with_people)) is not None:
        said.append((math.inf, _not_transferred(PROCESS_LOST)))
    done = [route for route in routed if route.status == "done"]
    return ResumeState(
        path=path_of(done),
        visited=visited(recorded),
        variables=call.variables,
        since_answer_ms=(now - (call.answered_at or now)).total_seconds() * 1000,
        said=[message for _, message in sorted(said, key=lambda one: one[0])],
        was_greeted=any(u.speaker == "agent" and u.heard_text != "" for u in spoken),
        hops=len(done),
        seqs=Seqs(
            events=max((e.seq for e in recorded), default=0),
            utterances=max((u.seq for u in spoken), default=0),
            routes=max((r.seq for r in routed), default=0),
        ),
        was_not_connected=bool(with_people) and _has_failed(with_people[-1]),
        called=next((_called(leg) for leg in with_people if _is_called(leg)), None),
        lost_transfer=lost,
    )


def _told_of(event: EventRecord) -> dict[str, str] | None:
    """The message to the agent about an event; None: there is none."""
    if event.type == TRANSFER_FAILED:
        return _not_transferred(event.data["outcome"])
    if event.type == "dtmf.received":
        return {"role": "user", "content": PRESSED.format(keys=event.data["digits"])}
    return None


def _not_transferred(outcome: str) -> dict[str, str]:
    return {"role": "developer", "content": NOT_TRANSFERRED.format(outcome=outcome)}


def _lost_transfer(recorded: Sequence[EventRecord], with_people: Sequence[LegRecord]) -> str | None:
    """The destination of a transfer that was not begun, because the process was lost before."""
    wanted: EventRecord | None = None
    for event in recorded:
        is_transfer = event.data.get("name") == TransferToNumber.name
        if event.type == "function.called" and is_transfer:
            wanted = event
        elif event.type in (TRANSFER_FAILED, "transfer.connected") or (
            event.type == "function.returned" and is_transfer and event.data["status"] != "ok"
        ):
            wanted = None
    if wanted is None or any(
        leg.destination is not None and leg.created_at >= wanted.at for leg in with_people
    ):
        return None
    return str(wanted.data["arguments"].get("destination"))


def _has_failed(leg: LegRecord) -> bool:
    """Whether a person was about to be connected with the caller and was not."""
    was_left = leg.accepted_at is not None and leg.result == "failed"
    return was_left and leg.destination is None


def _is_called(leg: LegRecord) -> bool:
    return leg.destination is not None and leg.accepted_at is None and leg.ended_at is None


def _called(leg: LegRecord) -> CalledDestination:
    return CalledDestination(leg_id=leg.id, name=leg.destination or "")


def _notes(call: CallRecord, with_people: Sequence[LegRecord]) -> list[tuple[float, dict[str, str]]]:
    """The messages to the agent about persons who accepted or are being called, with times in ms."""
    notes = []
    for leg in with_people:
        if _is_called(leg):
            calling = CALLING.format(name=leg.destination)
            notes.append((math.inf, {"role": "developer", "content": calling}))
        if leg.accepted_at is None or leg.ended_at is None:
            continue
        if leg.destination is not None and leg.bridged_at is None:
            continue  # an event of the call says so
        at_ms = (leg.accepted_at - (call.answered_at or leg.accepted_at)).total_seconds() * 1000
        text = NOT_CONNECTED.format(cause=leg.cause)
        if leg.bridged_at is not None:
            text = SPOKE_WITH_PERSON.format(seconds=round((leg.ended_at - leg.bridged_at).total_seconds()))
        notes.append((at_ms, {"role": "developer", "content": text}))
    return notes


def path_of(done: Iterable[RouteRecord]) -> Sequence[str]:
    """The names of the routes that ``back`` has not undone, in order."""
    path: list[str] = []
    for route in done:
        if route.name != BACK:
            path.append(route.name)
        elif path:
            path.pop()
    return path


def visited(recorded: Sequence[EventRecord]) -> Sequence[str]:
    """The nodes that the current agent has entered since it took the call over, in order."""
    nodes: list[tuple[UUID | None, str]] = []
    for event in recorded:
        if event.type == "voice.switched":
            nodes.clear()
        elif event.type == "node.entered" and event.node is not None:
            nodes.append((event.template_id, event.node))
    return [node for template_id, node in nodes if template_id == nodes[-1][0]]
