"""What is known at the moment a caller is handed over, frozen: whoever picks up reads no moving call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from db import calls, events, leads, numbers, routes, templates, utterances
from db.calls import CallRecord
from db.events import EventRecord
from db.pool import Executor

MOST_UTTERANCES = 500
"""The latest ones; an hour of talk has fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """A snapshot, and the facts of it that are columns too."""

    lead_id: UUID | None = None
    template_id: UUID | None = None
    node: str | None = None
    language: str | None = None
    time_zone: str | None = None
    document: Mapping[str, Any] = field(default_factory=dict)
    """JSON values: lead, call, template, node, variables, transcript, functions, routes."""


async def freeze(db: Executor, account_id: UUID, call_id: UUID | None, lead_id: UUID | None) -> Frozen:
    """Gather what is known of a call and its lead, or of a lead alone.

    Raises:
        NotFound: the account has no such call or lead.
    """
    if call_id is None:
        if lead_id is None:
            return Frozen(document=_document())
        lead = await _lead(db, account_id, lead_id)
        return Frozen(
            lead_id=lead_id, document=_document(lead=lead, variables=lead["payload"] | lead["variables"])
        )
    call = await calls.get(db, account_id, call_id)
    template = await templates.get(db, account_id, call.template_id)
    number = await numbers.get(db, account_id, call.number_id)
    lead = await _lead(db, account_id, lead_id or call.lead_id)
    said = await utterances.of_call(db, account_id, call_id)
    happened = await events.of_call(db, account_id, call_id)
    routed = await routes.of_call(db, account_id, call_id)
    document = _document(
        lead=lead,
        call=_call(call),
        template={
            "id": str(template.id),
            "name": template.name,
            "description": template.content.get("description", ""),
        },
        node=call.node,
        variables=lead["payload"] | lead["variables"],
        transcript=[
            {
                "speaker": one.speaker,
                "text": one.heard_text if one.interrupted and one.heard_text is not None else one.text,
                "template_id": str(one.template_id) if one.template_id else None,
                "node": one.node,
                "started_ms": one.started_ms,
            }
            for one in said[-MOST_UTTERANCES:]
        ],
        functions=_functions(happened),
        routes=[
            {"name": one.name, "reason": one.reason, "status": one.status, "error_code": one.error_code}
            for one in routed
        ],
    )
    return Frozen(
        lead_id=lead_id or call.lead_id,
        template_id=call.template_id,
        node=call.node,
        language=template.content.get("language"),
        time_zone=number.time_zone,
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


async def _lead(db: Executor, account_id: UUID, lead_id: UUID) -> dict[str, Any]:
    lead = await leads.get(db, account_id, lead_id)
    return {
        "id": str(lead.id),
        "phone": lead.phone,
        "payload": dict(lead.payload),
        "variables": dict(lead.variables),
        "status": lead.status,
        "outcome": lead.outcome,
        "calls": len(lead.call_ids),
    }


def _call(call: CallRecord) -> dict[str, Any]:
    return {
        "id": str(call.id),
        "direction": call.direction,
        "from": call.from_number,
        "to": call.to_number,
        "status": call.status,
        "started_at": call.started_at.isoformat(),
    }


def _functions(happened: Sequence[EventRecord]) -> list[dict[str, Any]]:
    """The functions called, each with how it ended; the n-th return of a name belongs to its n-th call."""
    found: list[dict[str, Any]] = []
    for event in happened:
        name = event.data.get("name")
        if event.type == "function.called":
            arguments = event.data.get("arguments", {})
            found.append({"name": name, "arguments": arguments, "status": None, "at": event.at.isoformat()})
        elif event.type == "function.returned":
            under_way = [one for one in found if one["name"] == name and one["status"] is None]
            if under_way:
                under_way[0]["status"] = event.data.get("status")
    return found
