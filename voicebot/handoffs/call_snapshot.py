"""The snapshot of a call that is stored with a handoff: its state at the moment of the handoff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from db import call_snapshot, leads
from db.call_snapshot import CallSnapshotRecord
from db.leads import LeadRecord
from db.pool import Executor

MAX_UTTERANCES = 500
"""Number of the latest utterances that a snapshot holds; a call of an hour has fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSnapshot:
    """A snapshot, and those of its values that are also columns of the handoff."""

    lead_id: UUID | None = None
    template_id: UUID | None = None
    node: str | None = None
    language: str | None = None
    time_zone: str | None = None
    escalate_after_ms: int | None = None
    document: Mapping[str, Any] = field(default_factory=dict)
    """JSON values: lead, call, template, node, variables, transcript, functions, routes."""


async def take_snapshot(
    db: Executor, account_id: UUID, call_id: UUID | None, lead_id: UUID | None
) -> CallSnapshot:
    """Read the state of a call and its lead, or of a lead alone.

    Raises:
        NotFound: the account has no such call or lead.
    """
    if call_id is None:
        if lead_id is None:
            return CallSnapshot(document=_document())
        lead = _lead(await leads.get(db, account_id, lead_id))
        return CallSnapshot(
            lead_id=lead_id, document=_document(lead=lead, variables=lead["payload"] | lead["variables"])
        )
    record = await call_snapshot.of_call(
        db, account_id, call_id, lead_id=lead_id, max_utterances=MAX_UTTERANCES
    )
    document = _document(
        lead=_lead_of_call(record),
        call=_call(record),
        template={
            "id": str(record.template_id),
            "name": record.template_name,
            "description": record.template_description or "",
        },
        node=record.node,
        variables={**record.payload, **record.variables},
        transcript=list(record.transcript),
        functions=_functions(record.functions),
        routes=list(record.routes),
    )
    return CallSnapshot(
        lead_id=record.lead_id,
        template_id=record.template_id,
        node=record.node,
        language=record.language,
        time_zone=record.time_zone,
        escalate_after_ms=record.escalate_after_ms,
        document=document,
    )


def _document(**known: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "lead": None,
        "call": None,
        "template": None,
        "node": None,
        "variables": {},
        "transcript": [],
        "functions": [],
        "routes": [],
    }
    return empty | known


def _lead_of_call(record: CallSnapshotRecord) -> dict[str, Any]:
    return {
        "id": str(record.lead_id),
        "phone": record.phone,
        "payload": dict(record.payload),
        "variables": dict(record.variables),
        "status": record.lead_status,
        "outcome": record.outcome,
        "calls": record.calls,
    }


def _lead(lead: LeadRecord) -> dict[str, Any]:
    return {
        "id": str(lead.id),
        "phone": lead.phone,
        "payload": dict(lead.payload),
        "variables": dict(lead.variables),
        "status": lead.status,
        "outcome": lead.outcome,
        "calls": len(lead.call_ids),
    }


def _call(record: CallSnapshotRecord) -> dict[str, Any]:
    return {
        "id": str(record.call_id),
        "direction": record.direction,
        "from": record.from_number,
        "to": record.to_number,
        "status": record.status,
        "started_at": record.started_at.isoformat(),
    }


def _functions(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Function calls with their status; the n-th return of a name belongs to its n-th call."""
    calls: list[dict[str, Any]] = []
    for event in events:
        data = event["data"]
        name = data.get("name")
        if event["type"] == "function.called":
            arguments = data.get("arguments", {})
            calls.append({"name": name, "arguments": arguments, "status": None, "at": event["at"]})
        else:
            pending = [call for call in calls if call["name"] == name and call["status"] is None]
            if pending:
                pending[0]["status"] = data.get("status")
    return calls
