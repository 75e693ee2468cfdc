"""What is known at the moment a caller is handed over, frozen: whoever picks up reads no moving call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from db import call_snapshot, leads
from db.call_snapshot import CallSnapshotRecord
from db.leads import LeadRecord
from db.pool import Executor

MOST_UTTERANCES = 500
"""The latest ones; an hour of talk has fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSnapshot:
    """A snapshot, and the facts of it that are columns too."""

    lead_id: UUID | None = None
    template_id: UUID | None = None
    node: str | None = None
    language: str | None = None
    time_zone: str | None = None
    document: Mapping[str, Any] = field(default_factory=dict)
    """JSON values: lead, call, template, node, variables, transcript, functions, routes."""


async def take_snapshot(
    db: Executor, account_id: UUID, call_id: UUID | None, lead_id: UUID | None
) -> CallSnapshot:
    """Gather what is known of a call and its lead, or of a lead alone.

    Raises:
        NotFound: the account has no such call or lead.
    """
    if call_id is None:
        if lead_id is None:
            return CallSnapshot(document=_document())
        lead = _lead_alone(await leads.get(db, account_id, lead_id))
        return CallSnapshot(
            lead_id=lead_id, document=_document(lead=lead, variables=lead["payload"] | lead["variables"])
        )
    case = await call_snapshot.of_call(
        db, account_id, call_id, lead_id=lead_id, most_utterances=MOST_UTTERANCES
    )
    document = _document(
        lead=_lead(case),
        call=_call(case),
        template={
            "id": str(case.template_id),
            "name": case.template_name,
            "description": case.template_description or "",
        },
        node=case.node,
        variables={**case.payload, **case.variables},
        transcript=list(case.transcript),
        functions=_functions(case.functions),
        routes=list(case.routes),
    )
    return CallSnapshot(
        lead_id=case.lead_id,
        template_id=case.template_id,
        node=case.node,
        language=case.language,
        time_zone=case.time_zone,
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


def _lead(case: CallSnapshotRecord) -> dict[str, Any]:
    return {
        "id": str(case.lead_id),
        "phone": case.phone,
        "payload": dict(case.payload),
        "variables": dict(case.variables),
        "status": case.lead_status,
        "outcome": case.outcome,
        "calls": case.calls,
    }


def _lead_alone(lead: LeadRecord) -> dict[str, Any]:
    return {
        "id": str(lead.id),
        "phone": lead.phone,
        "payload": dict(lead.payload),
        "variables": dict(lead.variables),
        "status": lead.status,
        "outcome": lead.outcome,
        "calls": len(lead.call_ids),
    }


def _call(case: CallSnapshotRecord) -> dict[str, Any]:
    return {
        "id": str(case.call_id),
        "direction": case.direction,
        "from": case.from_number,
        "to": case.to_number,
        "status": case.status,
        "started_at": case.started_at.isoformat(),
    }


def _functions(happened: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The functions called, each with how it ended; the n-th return of a name belongs to its n-th call."""
    found: list[dict[str, Any]] = []
    for event in happened:
        data = event["data"]
        name = data.get("name")
        if event["type"] == "function.called":
            arguments = data.get("arguments", {})
            found.append({"name": name, "arguments": arguments, "status": None, "at": event["at"]})
        else:
            under_way = [one for one in found if one["name"] == name and one["status"] is None]
            if under_way:
                under_way[0]["status"] = data.get("status")
    return found
