"""Webhooks of a template (``outbound.webhook_url``), written as notices of the outbox.

They are written in the transaction of the change that they report, so each is written once.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from db import dispatch_records, outbox
from db.dispatch import ClaimedLead
from db.dispatch_records import Alert
from db.finalisation import EndedCall, Finalisation, LeadChange
from db.lead_control import CancelledLead
from db.outbox import NoticeDraft
from db.pool import Transaction
from templates.outbound import Outbound


def call_ended(ended: EndedCall, result: Finalisation) -> dict[str, Any]:
    """The data of ``call.ended``."""
    call = ended.call
    return {
        "call_id": str(call.id),
        "lead_id": str(call.lead_id),
        "number_id": str(call.number_id),
        "template_id": str(call.initial_template_id),
        "direction": call.direction,
        "from": call.from_number,
        "to": call.to_number,
        "outcome": call.outcome or result.outcome,
        "ended_by": call.ended_by,
        "end_reason": call.end_reason,
        "started_at": _time(call.started_at),
        "answered_at": _time(call.answered_at),
        "ended_at": _time(call.ended_at),
        "duration_ms": call.duration_ms,
        "answered_by": call.answered_by,
        "cost": result.cost,
        "output": result.output,
    }


CANCELLED = "cancelled"
"""What ``lead.finished`` says as the outcome of a lead that was cancelled."""


def lead_finished(ended: EndedCall, result: Finalisation, change: LeadChange) -> dict[str, Any]:
    """The data of ``lead.finished`` for a lead that ends with a call, or was cancelled during it."""
    call, is_cancelled = ended.call, change == "cancelled"
    return {
        "lead_id": str(call.lead_id),
        "phone": call.to_number,
        "number_id": str(call.number_id),
        "template_id": str(call.initial_template_id),
        "outcome": CANCELLED if is_cancelled else result.outcome,
        "attempts": ended.attempts if is_cancelled else result.attempts,
        "call_id": str(call.id),
        "output": result.output,
    }


def lead_finished_uncalled(lead: ClaimedLead | CancelledLead, outcome: str) -> dict[str, Any]:
    """The data of ``lead.finished`` for a lead that ends without a further call."""
    return {
        "lead_id": str(lead.id),
        "phone": lead.phone,
        "number_id": str(lead.number_id),
        "template_id": str(lead.template_id),
        "outcome": outcome,
        "attempts": lead.attempts,
        "call_id": None,
        "output": None,
    }


async def raise_alert(db: Transaction, lead: ClaimedLead, outbound: Outbound | None, alert: Alert) -> None:
    """Raise an alert, and report it to the webhook of the template of the lead that met its cause.

    A repetition is counted, and not reported again.
    """
    if not await dispatch_records.alert(db, lead.account_id, alert):
        return
    data = {
        "code": alert.code,
        "template_id": None if alert.template_id is None else str(alert.template_id),
        "carrier": alert.carrier,
        "detail": alert.detail,
    }
    await outbox.put(db, lead.account_id, notice(outbound, lead.template_id, "alert", data, alert.at))


def notice(
    outbound: Outbound | None, template_id: UUID, type_: str, data: dict[str, Any], at: datetime
) -> list[NoticeDraft]:
    """The notice for the webhook of a template; none if it has no webhook."""
    if outbound is None or not outbound.webhook_url:
        return []
    message = {"type": type_, "timestamp": _time(at), "data": data}
    return [
        NoticeDraft(
            medium="webhook", message=message, at=at, template_id=template_id, url=outbound.webhook_url
        )
    ]


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
