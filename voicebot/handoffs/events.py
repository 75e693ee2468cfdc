"""How a handoff's changes are told: the event of the stream, and what it is in the journal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from db.handoff_events import HandoffEvent, JournalKind
from db.handoffs import HandoffRecord, Intent, State
from voicebot.handoffs.transitions import ends

CallState = Literal["active", "escalated", "parked"]

_KINDS: Mapping[str, JournalKind] = {
    "handoff.offered": "gate_transition",
    "handoff.claimed": "worker_started",
    "handoff.released": "gate_transition",
    "handoff.declined": "refused",
    "handoff.lapsed": "gate_transition",
    "handoff.due": "gate_transition",
    "handoff.rescheduled": "gate_transition",
    "handoff.transferring": "gate_transition",
    "handoff.bridged": "gate_transition",
    "handoff.dialing": "gate_transition",
    "handoff.connected": "gate_transition",
    "handoff.resolved": "worker_completed",
    "handoff.abandoned": "cancelled",
    "handoff.expired": "cancelled",
    "handoff.cancelled": "cancelled",
    "handoff.converted_to_park": "cancelled",
    "handoff.failed": "failed",
    "handoff.no_answer": "failed",
    "handoff.assessed": "proof_ready",
}
"""By event type; `handoff.created` depends on the intent, and `handoff.noted` is not of the story."""


def call_state(intent: Intent, state: State) -> CallState:
    """What the handoff makes of its call: waiting for a person now, to be called later, or with its agent."""
    if state == "converted_to_park":
        return "parked"
    if ends(intent, state):
        return "active"
    return "escalated" if intent == "escalate" else "parked"


def created(handoff: HandoffRecord) -> HandoffEvent:
    """A handoff was made."""
    kind: JournalKind = "router_escalation" if handoff.intent == "escalate" else "goal_created"
    return _event("handoff.created", handoff, handoff.created_at, handoff.created_by, kind, handoff.reason)


def changed(
    type_: str, handoff: HandoffRecord, at: datetime, *, actor_id: UUID | None = None, summary: str = ""
) -> HandoffEvent:
    """A handoff was changed; `handoff` is as it is now."""
    told = summary or handoff.cause or type_.partition(".")[2]
    if type_ == "handoff.resolved":
        told = f"completed: {handoff.resolution or 'resolved'}"
    return _event(type_, handoff, at, actor_id, _KINDS.get(type_), told)


def _event(
    type_: str,
    handoff: HandoffRecord,
    at: datetime,
    actor_id: UUID | None,
    kind: JournalKind | None,
    summary: str,
) -> HandoffEvent:
    data: dict[str, Any] = {
        "intent": handoff.intent,
        "state": handoff.state,
        "epoch": handoff.epoch,
        "claimed_by": str(handoff.holder_id) if handoff.holder_id else None,
        "offered_to": str(handoff.offered_to) if handoff.offered_to else None,
        "priority": handoff.priority,
        "language": handoff.language,
        "team": handoff.team,
        "due_at": handoff.due_at.isoformat() if handoff.due_at else None,
        "cause": handoff.cause,
        "call_state": call_state(handoff.intent, handoff.state),
        "summary": summary,
    }
    if kind == "router_escalation":
        data["auto_proceed"] = handoff.origin != "person"
    if type_ == "handoff.assessed" and handoff.assessment is not None:
        data["confidence"] = handoff.assessment.get("confidence")
    return HandoffEvent(
        type=type_,
        at=at,
        handoff_id=handoff.id,
        call_id=handoff.call_id,
        actor_id=actor_id,
        data=data,
        kind=kind,
    )
