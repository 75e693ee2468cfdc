"""Leads: the people that calls are about. An inbound call creates its own lead (``db.inbound``)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from db import routes
from db.calls import Direction
from db.errors import ConstraintViolated, IdempotencyKeyReused, NotFound
from db.ids import new_id
from db.pool import Executor, Row
from db.routes import RouteRecord
from db.rows import Page, after_id, narrow, page

LeadStatus = Literal["new", "in_progress", "finished"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadRecord:
    """One lead with its calls and routes."""

    id: UUID
    account_id: UUID
    direction: Direction
    phone: str | None
    """E.164; None when the caller withheld it."""
    number_id: UUID
    initial_template_id: UUID
    template_id: UUID
    """The agent that has the lead, or had it last."""
    payload: Mapping[str, Any]
    variables: Mapping[str, Any]
    status: LeadStatus
    outcome: str | None
    created_at: datetime
    finished_at: datetime | None
    call_ids: Sequence[UUID]
    """Oldest first."""
    routes: Sequence[RouteRecord] = field(default=())
    """Of all its calls, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadDraft:
    """A lead to create."""

    direction: Direction
    phone: str | None
    number_id: UUID
    template_id: UUID
    payload: Mapping[str, Any]
    variables: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedLead:
    """The lead of a request, and whether this request created it."""

    lead: LeadRecord
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadFilter:
    """Which leads to list; None does not filter."""

    status: LeadStatus | None = None
    direction: Direction | None = None
    phone: str | None = None
    number_id: UUID | None = None
    template_id: UUID | None = None


_LEAD = """
    lead.id, lead.account_id, lead.direction, lead.phone, lead.number_id, lead.initial_template_id,
    lead.template_id, lead.payload, lead.variables, lead.status, lead.outcome, lead.created_at,
    lead.finished_at,
    ARRAY(SELECT call.id FROM calls call WHERE call.account_id = lead.account_id AND call.lead_id = lead.id
        ORDER BY call.id) AS call_ids
"""


async def create(
    db: Executor, account_id: UUID, draft: LeadDraft, *, idempotency_key: str | None = None
) -> CreatedLead:
    """Create a lead. A repeated request with the same key returns the lead of the first one.

    Raises:
        IdempotencyKeyReused: the key was used for another request.
        NotFound: the account has no such number or template.
    """
    lead_id = new_id()
    try:
        inserted = await db.execute(
            """
            INSERT INTO leads (id, account_id, direction, phone, number_id, initial_template_id, template_id,
                payload, variables, status, idempotency_key)
            VALUES ($2, $1, $3, $4, $5, $6, $6, $7, $8, 'new', $9)
            ON CONFLICT (account_id, idempotency_key) DO NOTHING
            """,
            account_id,
            lead_id,
            draft.direction,
            draft.phone,
            draft.number_id,
            draft.template_id,
            draft.payload,
            draft.variables,
            idempotency_key,
        )
    except ConstraintViolated as error:
        if error.constraint == "leads_account_id_number_id_fkey":
            raise NotFound("number", draft.number_id) from None
        if error.constraint == "leads_account_id_initial_template_id_fkey":
            raise NotFound("template", draft.template_id) from None
        raise
    if inserted:
        return CreatedLead(lead=await get(db, account_id, lead_id), created=True)
    return CreatedLead(lead=await _created_before(db, account_id, draft, idempotency_key), created=False)


async def _created_before(db: Executor, account_id: UUID, draft: LeadDraft, key: str | None) -> LeadRecord:
    # PostgreSQL compares the JSON documents. Variables are not compared, because calls add to them.
    row = await db.fetchrow(
        """
        SELECT id, (direction, number_id, initial_template_id, payload) = ($3, $4, $5, $6)
            AND phone IS NOT DISTINCT FROM $7 AS same
        FROM leads WHERE account_id = $1 AND idempotency_key = $2
        """,
        account_id,
        key,
        draft.direction,
        draft.number_id,
        draft.template_id,
        draft.payload,
        draft.phone,
    )
    if row is None:
        raise NotFound("lead", f"of the idempotency key {key!r}")
    if not row["same"]:
        raise IdempotencyKeyReused(row["id"])
    return await get(db, account_id, row["id"])


async def get(db: Executor, account_id: UUID, lead_id: UUID) -> LeadRecord:
    """One lead with its calls and routes.

    Raises:
        NotFound: the account has no such lead.
    """
    rows = await db.fetch(
        f"SELECT {_LEAD} FROM leads lead WHERE lead.account_id = $1 AND lead.id = $2",  # noqa: S608
        account_id,
        lead_id,
    )
    if not rows:
        raise NotFound("lead", lead_id)
    return (await _with_routes(db, account_id, rows))[0]


async def list_leads(
    db: Executor, account_id: UUID, where: LeadFilter, *, limit: int, cursor: str | None = None
) -> Page[LeadRecord]:
    """The account's leads, newest first.

    Raises:
        BadCursor: the cursor is not one of this list.
    """
    narrowing, values = narrow(
        {
            "status": where.status,
            "direction": where.direction,
            "phone": where.phone,
            "number_id": where.number_id,
            "template_id": where.template_id,
        },
        first=4,
    )
    rows = await db.fetch(
        f"""
        SELECT {_LEAD} FROM leads lead
        WHERE account_id = $1 AND id < $2{narrowing} ORDER BY id DESC LIMIT $3
        """,  # noqa: S608
        account_id,
        after_id(cursor),
        limit + 1,
        *values,
    )
    return page(await _with_routes(db, account_id, rows), limit, lambda lead: lead.id)


async def keep_variables(
    db: Executor, account_id: UUID, lead_id: UUID, variables: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Add variables to the lead, replacing those of the same name; return all of them.

    Raises:
        NotFound: the account has no such lead.
    """
    row = await db.fetchrow(
        """
        UPDATE leads SET variables = variables || $3 WHERE account_id = $1 AND id = $2 RETURNING variables
        """,
        account_id,
        lead_id,
        variables,
    )
    if row is None:
        raise NotFound("lead", lead_id)
    kept: Mapping[str, Any] = row["variables"]
    return kept


async def _with_routes(db: Executor, account_id: UUID, rows: Sequence[Row]) -> list[LeadRecord]:
    of_lead: defaultdict[UUID, list[RouteRecord]] = defaultdict(list)
    if rows:
        for lead_id, route in await routes.of_leads(db, account_id, [row["id"] for row in rows]):
            of_lead[lead_id].append(route)
    return [LeadRecord(**dict(row), routes=tuple(of_lead[row["id"]])) for row in rows]
