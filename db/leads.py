"""Leads: the people that calls are about. An inbound call creates its own lead (``db.inbound``)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from db import routes
from db.calls import Direction
from db.errors import ConstraintViolated, IdempotencyKeyReused, NotFound
from db.ids import new_id
from db.lead_states import OutboundStatus
from db.pool import Executor, Row
from db.routes import RouteRecord
from db.rows import Page, after_id, narrow, page

InboundStatus = Literal["new", "in_progress", "finished"]
LeadStatus = Literal[InboundStatus, OutboundStatus]


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
    priority: int
    """From -100 to 100; the highest is dialled first."""
    earliest_at: datetime | None
    latest_at: datetime | None
    time_zone: str | None
    """IANA name of the person's time zone; None: that of the number."""
    attempts: int
    """How many calls were placed."""
    next_attempt_at: datetime | None
    """When the next call is placed at the earliest; None unless the lead is queued or held."""
    waits_for: str | None
    """``window``, ``rate_limit``, ``channel``, ``person`` (a call to them), ``carrier`` or ``retry``."""
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
    priority: int = 0
    earliest_at: datetime | None = None
    latest_at: datetime | None = None
    time_zone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedLead:
    """The lead of a request, and whether this request created it."""

    lead: LeadRecord
    created: bool


@dataclass(frozen=True, slots=True)
class AddedLead:
    """One of several leads that were created together."""

    lead_id: UUID
    created: bool
    """Whether it was created now; otherwise an earlier request with the same key has created it."""


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
    lead.template_id, lead.payload, lead.variables, lead.status, lead.outcome, lead.priority,
    lead.earliest_at, lead.latest_at, lead.time_zone, lead.attempts, lead.next_attempt_at, lead.waits_for,
    lead.created_at, lead.finished_at,
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
    (created,) = await create_all(db, account_id, [(draft, idempotency_key)])
    return created


async def create_all(
    db: Executor, account_id: UUID, drafts: Sequence[tuple[LeadDraft, str | None]]
) -> Sequence[CreatedLead]:
    """Create leads as ``create`` does, by one statement. Use a transaction, so that it is all or none.

    Raises:
        IdempotencyKeyReused, NotFound: as for ``create``, of one of them.
    """
    added: list[AddedLead] = []
    for each in await add_all(db, account_id, drafts):
        if isinstance(each, IdempotencyKeyReused):
            raise each
        added.append(each)
    rows = await db.fetch(
        f"SELECT {_LEAD} FROM leads lead WHERE lead.account_id = $1 AND lead.id = ANY($2::uuid[])",  # noqa: S608
        account_id,
        [each.lead_id for each in added],
    )
    found = {lead.id: lead for lead in await _with_routes(db, account_id, rows)}
    return [CreatedLead(lead=found[each.lead_id], created=each.created) for each in added]


async def add(
    db: Executor, account_id: UUID, draft: LeadDraft, *, idempotency_key: str | None = None
) -> UUID:
    """Create a lead as ``create`` does, and return its id only.

    Raises:
        IdempotencyKeyReused, NotFound: as for ``create``.
    """
    (added,) = await add_all(db, account_id, [(draft, idempotency_key)])
    if isinstance(added, IdempotencyKeyReused):
        raise added
    return added.lead_id


async def add_all(
    db: Executor, account_id: UUID, drafts: Sequence[tuple[LeadDraft, str | None]]
) -> Sequence[AddedLead | IdempotencyKeyReused]:
    """Create leads as ``add`` does, by one statement; a reused key is returned in the place of its lead.

    Raises:
        NotFound: the account does not have one of the numbers or templates; nothing is created.
    """
    ids = [new_id() for _ in drafts]
    inserted = await _insert(db, account_id, ids, drafts)
    added: list[AddedLead | IdempotencyKeyReused] = []
    for lead_id, (draft, key) in zip(ids, drafts, strict=True):
        if lead_id in inserted:
            added.append(AddedLead(lead_id, created=True))
            continue
        try:
            added.append(AddedLead(await _created_before(db, account_id, draft, key), created=False))
        except IdempotencyKeyReused as reused:
            added.append(reused)
    return added


async def _insert(
    db: Executor, account_id: UUID, ids: Sequence[UUID], drafts: Sequence[tuple[LeadDraft, str | None]]
) -> Collection[UUID]:
    """Insert leads; the ids of those whose key is not known."""
    given = [draft for draft, _ in drafts]
    try:
        rows = await db.fetch(
            """
            INSERT INTO leads (id, account_id, direction, phone, number_id, initial_template_id, template_id,
                payload, variables, status, idempotency_key, priority, earliest_at, latest_at, time_zone,
                next_attempt_at)
            SELECT id, $1, direction, phone, number_id, template_id, template_id, payload, variables,
                CASE direction WHEN 'inbound' THEN 'new' ELSE 'queued' END, key, priority, earliest_at,
                latest_at, time_zone, CASE direction WHEN 'outbound' THEN coalesce(earliest_at, now()) END
            FROM unnest($2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::uuid[], $7::jsonb[], $8::jsonb[],
                $9::text[], $10::smallint[], $11::timestamptz[], $12::timestamptz[], $13::text[])
            AS given (id, direction, phone, number_id, template_id, payload, variables, key, priority,
                earliest_at, latest_at, time_zone)
            ON CONFLICT (account_id, idempotency_key) DO NOTHING
            RETURNING id
            """,
            account_id,
            list(ids),
            [draft.direction for draft in given],
            [draft.phone for draft in given],
            [draft.number_id for draft in given],
            [draft.template_id for draft in given],
            [draft.payload for draft in given],
            [draft.variables for draft in given],
            [key for _, key in drafts],
            [draft.priority for draft in given],
            [draft.earliest_at for draft in given],
            [draft.latest_at for draft in given],
            [draft.time_zone for draft in given],
        )
    except ConstraintViolated as error:
        if error.constraint == "leads_account_id_number_id_fkey":
            raise NotFound("number", ", ".join(sorted({str(draft.number_id) for draft in given}))) from None
        if error.constraint == "leads_account_id_initial_template_id_fkey":
            raise NotFound(
                "template", ", ".join(sorted({str(draft.template_id) for draft in given}))
            ) from None
        raise
    return {row["id"] for row in rows}


async def _created_before(db: Executor, account_id: UUID, draft: LeadDraft, key: str | None) -> UUID:
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
    lead_id: UUID = row["id"]
    return lead_id


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
