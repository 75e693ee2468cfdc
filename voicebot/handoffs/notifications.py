"""Who hears of a handoff, and what: written into the outbox in the transaction of the handoff itself.

Subjects and first lines carry no word of the conversation: they appear on locked screens.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from db import channels, outbox, users
from db.handoffs import HandoffRecord
from db.outbox import Medium, NoticeDraft
from db.pool import Executor

CALLS_FOR_HELP: Sequence[Medium] = ("email", "slack", "webhook")
"""What is pointless once somebody has claimed the handoff."""


async def tell(db: Executor, handoff: HandoffRecord, *, assess: bool) -> None:
    """Tell of a handoff that was made: those who can help, and the model if its opinion is wanted.

    Nobody is called to a parked call. Nobody to tell is no error.
    """
    drafts = await _calls_for_help(db, handoff) if handoff.intent == "escalate" else []
    if assess:
        drafts.append(
            NoticeDraft(medium="assessment", at=handoff.created_at, handoff_id=handoff.id, message={})
        )
    await outbox.put(db, handoff.account_id, drafts)


async def _calls_for_help(db: Executor, handoff: HandoffRecord) -> list[NoticeDraft]:
    at = handoff.created_at
    drafts = [
        NoticeDraft(
            medium="email",
            at=at,
            handoff_id=handoff.id,
            user_id=person.id,
            message={"to": person.email, "subject": _headline(handoff), "text": _text(handoff)},
        )
        for person in await users.to_notify(db, handoff.account_id, but_not=handoff.created_by)
    ]
    for channel in await channels.of_account(db, handoff.account_id):
        if channel.kind == "slack":
            message: dict[str, Any] = {"text": f"{_headline(handoff)}\n{_text(handoff)}"}
        elif channel.kind == "webhook":
            message = _event("handoff.created", handoff, at)
        else:
            continue
        drafts.append(
            NoticeDraft(
                medium=channel.kind, at=at, handoff_id=handoff.id, channel_id=channel.id, message=message
            )
        )
    return drafts


async def file_notes(db: Executor, handoff: HandoffRecord, at: datetime) -> None:
    """Have the account's ticket systems keep what was resolved, and how."""
    message = _event("handoff.resolved", handoff, at)
    drafts = [
        NoticeDraft(medium="ticket", at=at, handoff_id=handoff.id, channel_id=channel.id, message=message)
        for channel in await channels.of_account(db, handoff.account_id, "ticket")
    ]
    await outbox.put(db, handoff.account_id, drafts)


async def call_off(db: Executor, account_id: UUID, handoff_id: UUID, at: datetime) -> None:
    """Take back the calls for help that have not gone out."""
    await outbox.cancel(db, account_id, handoff_id, CALLS_FOR_HELP, at)


def _headline(handoff: HandoffRecord) -> str:
    urgency = "" if handoff.priority == "normal" else f" ({handoff.priority} priority)"
    return f"A caller needs a person{urgency}"


def _text(handoff: HandoffRecord) -> str:
    team = f"Team: {handoff.team}\n" if handoff.team else ""
    language = f"Language: {handoff.language}\n" if handoff.language else ""
    return f"Reason: {handoff.reason}\n{team}{language}Handoff: {handoff.id}\n"


def _event(type_: str, handoff: HandoffRecord, at: datetime) -> dict[str, Any]:
    return {
        "type": type_,
        "timestamp": at.isoformat(),
        "data": {
            "handoff_id": str(handoff.id),
            "call_id": str(handoff.call_id) if handoff.call_id else None,
            "lead_id": str(handoff.lead_id) if handoff.lead_id else None,
            "intent": handoff.intent,
            "priority": handoff.priority,
            "language": handoff.language,
            "team": handoff.team,
            "reason": handoff.reason,
            "notes": handoff.notes,
            "resolution": handoff.resolution,
            "resolved_by": str(handoff.resolved_by) if handoff.resolved_by else None,
        },
    }
