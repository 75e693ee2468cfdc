"""Snapshot of a call: the call, its lead, its agent and what happened, in one statement.

It is read while the caller waits for a reply, so it takes one round trip to the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from db.calls import CallStatus, Direction
from db.errors import NotFound
from db.leads import LeadStatus
from db.pool import Executor
from db.rows import read


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSnapshotRecord:
    """State of a call at one moment; the lists hold JSON objects in chronological order."""

    call_id: UUID
    direction: Direction
    from_number: str | None
    to_number: str
    status: CallStatus
    started_at: datetime
    node: str | None
    template_id: UUID
    template_name: str
    template_description: str | None
    language: str | None
    time_zone: str | None
    """Time zone of the number that was called."""
    escalate_after_ms: int | None
    """The agent's `waiting.escalate_after_ms`; None: not written."""
    lead_id: UUID
    phone: str | None
    payload: Mapping[str, Any]
    variables: Mapping[str, Any]
    lead_status: LeadStatus
    outcome: str | None
    calls: int
    """Number of calls of the lead."""
    transcript: Sequence[Mapping[str, Any]]
    """Speaker, text (the heard part, if it was interrupted), template_id, node, started_ms."""
    functions: Sequence[Mapping[str, Any]]
    """Events of function calls and returns: type, at, data."""
    routes: Sequence[Mapping[str, Any]]
    """Name, reason, status, error_code."""


async def of_call(
    db: Executor, account_id: UUID, call_id: UUID, *, lead_id: UUID | None = None, max_utterances: int
) -> CallSnapshotRecord:
    """Read the snapshot of a call.

    Args:
        db: the connection.
        account_id: the account.
        call_id: the call.
        lead_id: a lead other than the call's.
        max_utterances: how many of the latest utterances to include.

    Raises:
        NotFound: the account has no such call or lead.
    """
    row = await db.fetchrow(_SNAPSHOT, account_id, call_id, lead_id, max_utterances)
    if row is None:
        raise NotFound("call", call_id)
    if row["lead_id"] is None:
        raise NotFound("lead", str(lead_id))
    return read(CallSnapshotRecord, row)


_SNAPSHOT = """
    SELECT call.id AS call_id, call.direction, call.from_number, call.to_number, call.status,
        call.started_at, call.node, call.template_id, template.name AS template_name,
        template.content ->> 'description' AS template_description,
        template.content ->> 'language' AS language,
        CASE json_typeof(template.content #> '{waiting,escalate_after_ms}') WHEN 'number'
            THEN (template.content #>> '{waiting,escalate_after_ms}')::numeric::integer END
            AS escalate_after_ms, number.time_zone, lead.id AS lead_id, lead.phone,
        lead.payload, lead.variables, lead.status AS lead_status, lead.outcome,
        (SELECT count(*) FROM calls other WHERE other.account_id = $1 AND other.lead_id = lead.id) AS calls,
        (SELECT coalesce(jsonb_agg(to_jsonb(utterance) - 'seq' ORDER BY seq), '[]') FROM (
            SELECT seq, speaker, template_id, node, started_ms,
                CASE WHEN interrupted THEN coalesce(heard_text, text) ELSE text END AS text
            FROM utterances WHERE account_id = $1 AND call_id = $2 ORDER BY seq DESC LIMIT $4
        ) utterance) AS transcript,
        (SELECT coalesce(jsonb_agg(to_jsonb(event) - 'seq' ORDER BY seq), '[]') FROM (
            SELECT seq, type, at, data FROM events WHERE account_id = $1 AND call_id = $2
                AND (type = 'function.called' OR type = 'function.returned')
        ) event) AS functions,
        (SELECT coalesce(jsonb_agg(to_jsonb(route) - 'seq' ORDER BY seq), '[]') FROM (
            SELECT seq, name, reason, status, error_code FROM routes WHERE account_id = $1 AND call_id = $2
        ) route) AS routes
    FROM calls call
    JOIN templates template ON template.account_id = call.account_id AND template.id = call.template_id
    JOIN numbers number ON number.account_id = call.account_id AND number.id = call.number_id
    LEFT JOIN leads lead ON lead.account_id = call.account_id AND lead.id = coalesce($3, call.lead_id)
    WHERE call.account_id = $1 AND call.id = $2
"""
