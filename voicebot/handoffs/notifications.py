"""Notices of handoffs: recipients and messages, written to the outbox in the transaction of the handoff.

Subjects and first lines contain nothing of the conversation, because they appear on locked screens.
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

REQUESTS: Sequence[Medium] = ("email", "slack", "webhook")
"""Media of notices that ask for help; unsent ones are cancelled once the handoff is claimed."""


async def add(db: Executor, handoff: HandoffRecord, *, assess: bool) -> None:
    """Add the notices of a new handoff; a parked call and an account without recipients have none.

    Args:
        db: the transaction of the handoff.
        handoff: the new handoff.
        assess: whether to ask the language model for an assessment.
    """
    drafts = await _requests(db, handoff) if handoff.intent == "escalate" else []
    if assess:
        drafts.append(
            NoticeDraft(medium="assessment", at=handoff.created_at, handoff_id=handoff.id, message={})
        )
    await outbox.put(db, handoff.account_id, drafts)


async def _requests(db: Executor, handoff: HandoffRecord) -> list[NoticeDraft]:
    at = handoff.created_at
    drafts = [
        NoticeDraft(
            medium="email",
            at=at,
            handoff_id=handoff.id,
            user_id=user.id,
            message={"to": user.email, "subject": _headline(handoff), "text": _text(handoff)},
        )
        for user in await users.to_notify(db, handoff.account_id, exclude=handoff.created_by)
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


async def add_tickets(db: Executor, handoff: HandoffRecord, at: datetime) -> None:
    """Add the notices of a resolved handoff to the account's ticket systems."""
    message = _event("handoff.resolved", handoff, at)
    drafts = [
        NoticeDraft(medium="ticket", at=at, handoff_id=handoff.id, channel_id=channel.id, message=message)
        for channel in await channels.of_account(db, handoff.account_id, "ticket")
    ]
    await outbox.put(db, handoff.account_id, drafts)


async def cancel_unsent(db: Executor, account_id: UUID, handoff_id: UUID, at: datetime) -> None:
    """Cancel the unsent notices that ask for help."""
    await outbox.cancel(db, account_id, handoff_id, REQUESTS, at)


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
