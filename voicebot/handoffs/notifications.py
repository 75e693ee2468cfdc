"""Notices of handoffs: recipients and messages, written to the outbox in the transaction of the handoff.

Subjects and first lines contain nothing of the conversation, because they appear on locked screens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from db import channels, outbox, users, utterances
from db.channels import ChannelRecord
from db.handoffs import HandoffRecord
from db.keys import Role
from db.outbox import Medium, NoticeDraft
from db.pool import Executor

REQUESTS: Sequence[Medium] = ("email", "slack", "webhook")
"""Media of notices that ask for help; unsent ones are cancelled once the handoff is claimed."""


ROLES: Sequence[Role] = ("owner", "admin", "operator")
"""Who is notified of a new handoff, of one that waits again, and of a call-back that is due."""

CHAIN: Sequence[Sequence[Role]] = (("admin",), ("owner",))
"""Who is notified when nobody claims a handoff in the author's time, and in twice that time."""

Need = Literal["created", "queued", "due", "unclaimed"]
"""Why somebody is needed: a new handoff, a returned one, a due call-back, or an unclaimed handoff."""

HEADLINES: Mapping[Need, str] = {
    "created": "A caller needs a person",
    "queued": "A caller needs a person again",
    "due": "A call-back is due",
    "unclaimed": "Nobody has taken a request for a person",
}

MAX_UTTERANCES = 500
"""Number of the latest utterances in a ticket."""


async def add(db: Executor, handoff: HandoffRecord, *, assess: bool) -> None:
    """Add the notices of a new handoff; a parked call and an account without recipients have none.

    Args:
        db: the transaction of the handoff.
        handoff: the new handoff.
        assess: whether to ask the language model for an assessment.
    """
    drafts = []
    if handoff.intent == "escalate":
        drafts = await _requests(db, handoff, "created", handoff.created_at, ROLES, handoff.created_by)
    if assess:
        drafts.append(
            NoticeDraft(medium="assessment", at=handoff.created_at, handoff_id=handoff.id, message={})
        )
    await outbox.put(db, handoff.account_id, drafts)


async def ask_again(
    db: Executor, handoff: HandoffRecord, need: Need, at: datetime, *, exclude: UUID | None = None
) -> None:
    """Add the notices of a handoff that waits again, or of a call-back that is due.

    Args:
        db: the transaction of the change.
        handoff: the handoff after the change.
        need: why somebody is needed.
        at: the moment of the change.
        exclude: the user who returned it.
    """
    drafts = await _requests(db, handoff, need, at, ROLES, exclude)
    await outbox.put(db, handoff.account_id, drafts)


async def escalate(db: Executor, handoff: HandoffRecord, level: int, at: datetime) -> None:
    """Add the notices of a handoff that nobody has claimed in time.

    Args:
        db: the transaction of the change.
        handoff: the handoff.
        level: the place in ``CHAIN``, from 1; without an admin the owners are notified at once.
        at: the present moment.
    """
    roles = CHAIN[level - 1]
    if not await users.to_notify(db, handoff.account_id, roles=roles):
        roles = CHAIN[-1]
    drafts = await _requests(db, handoff, "unclaimed", at, roles, None)
    await outbox.put(db, handoff.account_id, drafts)


async def _requests(
    db: Executor,
    handoff: HandoffRecord,
    need: Need,
    at: datetime,
    roles: Sequence[Role],
    exclude: UUID | None,
) -> list[NoticeDraft]:
    headline, text = _headline(handoff, need), _text(handoff)
    drafts = [
        NoticeDraft(
            medium="email",
            at=at,
            handoff_id=handoff.id,
            user_id=user.id,
            message={"to": user.email, "subject": headline, "text": text},
        )
        for user in await users.to_notify(db, handoff.account_id, roles=roles, exclude=exclude)
    ]
    for channel in await channels.of_account(db, handoff.account_id):
        if channel.kind == "slack":
            message: dict[str, Any] = {"text": f"{headline}\n{text}"}
        elif channel.kind == "webhook":
            message = _event(f"handoff.{need}", handoff, at)
        else:
            continue
        drafts.append(
            NoticeDraft(
                medium=channel.kind, at=at, handoff_id=handoff.id, channel_id=channel.id, message=message
            )
        )
    return drafts


async def add_tickets(db: Executor, handoff: HandoffRecord, at: datetime) -> None:
    """Add the notices of a handoff that ended to the account's ticket systems, with its transcript."""
    ticket_systems = await channels.of_account(db, handoff.account_id, "ticket")
    if not ticket_systems:
        return
    message = _event(f"handoff.{handoff.state}", handoff, at)
    message["data"] |= {
        "cause": handoff.cause,
        "assessment": handoff.assessment,
        "transcript": await _transcript(db, handoff),
    }
    drafts = [
        NoticeDraft(medium="ticket", at=at, handoff_id=handoff.id, channel_id=channel.id, message=message)
        for channel in ticket_systems
    ]
    await outbox.put(db, handoff.account_id, drafts)


async def _transcript(db: Executor, handoff: HandoffRecord) -> list[dict[str, Any]]:
    """What was said on the call until now, its latest part if it was long."""
    if handoff.call_id is None:
        return []
    said = await utterances.of_call(db, handoff.account_id, handoff.call_id)
    return [
        {"speaker": one.speaker, "text": one.heard_text if one.interrupted else one.text}
        for one in said[-MAX_UTTERANCES:]
    ]


def channel_test(channel: ChannelRecord, at: datetime) -> NoticeDraft:
    """A notice that shows whether a channel works."""
    message: dict[str, Any] = {
        "type": "channel.test",
        "timestamp": at.isoformat(),
        "data": {"channel_id": str(channel.id)},
    }
    if channel.kind == "slack":
        message = {"text": "This is a test of the notices of voicebot."}
    return NoticeDraft(medium=channel.kind, at=at, channel_id=channel.id, message=message)


async def cancel_unsent(db: Executor, account_id: UUID, handoff_id: UUID, at: datetime) -> None:
    """Cancel the unsent notices that ask for help."""
    await outbox.cancel(db, account_id, handoff_id, REQUESTS, at)


def _headline(handoff: HandoffRecord, need: Need) -> str:
    urgency = "" if handoff.priority == "normal" else f" ({handoff.priority} priority)"
    return f"{HEADLINES[need]}{urgency}"


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
