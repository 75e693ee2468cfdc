"""Routes: the changes of agent on a call, one row each: done, refused or failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from db import handoff_events
from db.errors import ConstraintViolated, NotFound, SequenceTaken
from db.handoff_events import JournalKind
from db.pool import Executor, Transaction
from db.rows import columns, read

RouteContext = Literal["full", "summary", "variables", "none"]
RouteStatus = Literal["done", "refused", "failed"]

_KINDS: Mapping[RouteStatus, JournalKind] = {
    "done": "router_escalation",
    "refused": "refused",
    "failed": "failed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRecord:
    """One use of ``route_to_agent``."""

    id: UUID
    account_id: UUID
    call_id: UUID
    seq: int
    """The number of the route within its call, refused ones included."""
    name: str
    """The name that the model gave."""
    hop: int
    """The number of routes done before on the call, plus one."""
    from_template_id: UUID
    from_node: str | None
    to_template_id: UUID | None
    """None only for a refused route whose name no agent has."""
    to_node: str | None
    reason: str
    context: RouteContext
    announced: bool
    status: RouteStatus
    error_code: str | None
    requested_at: datetime
    switched_at: datetime | None
    first_audio_at: datetime | None
    gap_ms: int | None
    """Milliseconds of silence between the old agent and the new one."""


_ROUTE = columns(RouteRecord)


async def record(db: Executor, route: RouteRecord) -> None:
    """Write a refused or failed route; writing it again updates it. For done routes see ``complete``.

    Raises:
        SequenceTaken: another route of the call has this ``seq``.
        ConstraintViolated: the account has no such call or template.
    """
    async with db.transaction() as transaction:
        await _record(transaction, route)
        await _append_event(transaction, route)


async def complete(db: Executor, route: RouteRecord) -> None:
    """Write a done route and move the lead and the live call to its target, in one transaction.

    A late repetition does not undo a later route: lead and call follow the route with the highest ``seq``.

    Raises:
        SequenceTaken: another route of the call has this ``seq``.
        ConstraintViolated: the account has no such call or template, or the route is not done.
    """
    async with db.transaction() as transaction:
        await _record(transaction, route)
        await transaction.execute(
            """
            WITH newest AS (
                SELECT account_id, call_id, to_template_id, to_node FROM routes
                WHERE account_id = $1 AND call_id = $2 AND status = 'done' ORDER BY seq DESC LIMIT 1
            ), call AS (
                UPDATE calls SET template_id = newest.to_template_id,
                    node = CASE WHEN calls.template_id = newest.to_template_id THEN calls.node
                        ELSE newest.to_node END
                FROM newest WHERE calls.account_id = newest.account_id AND calls.id = newest.call_id
                RETURNING calls.account_id, calls.lead_id, calls.template_id
            )
            UPDATE leads SET template_id = call.template_id
            FROM call WHERE leads.account_id = call.account_id AND leads.id = call.lead_id
            """,
            route.account_id,
            route.call_id,
        )
        await _append_event(transaction, route)


async def _record(db: Transaction, route: RouteRecord) -> None:
    try:
        await db.execute(
            f"""
            INSERT INTO routes ({_ROUTE})
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
            ON CONFLICT (id) DO UPDATE SET status = EXCLUDED.status, error_code = EXCLUDED.error_code,
                to_template_id = EXCLUDED.to_template_id, to_node = EXCLUDED.to_node,
                switched_at = coalesce(EXCLUDED.switched_at, routes.switched_at),
                first_audio_at = coalesce(EXCLUDED.first_audio_at, routes.first_audio_at),
                gap_ms = coalesce(EXCLUDED.gap_ms, routes.gap_ms)
            WHERE routes.account_id = EXCLUDED.account_id AND routes.call_id = EXCLUDED.call_id
            """,  # noqa: S608 - only column names
            route.id,
            route.account_id,
            route.call_id,
            route.seq,
            route.name,
            route.hop,
            route.from_template_id,
            route.from_node,
            route.to_template_id,
            route.to_node,
            route.reason,
            route.context,
            route.announced,
            route.status,
            route.error_code,
            route.requested_at,
            route.switched_at,
            route.first_audio_at,
            route.gap_ms,
        )
    except ConstraintViolated as error:
        if error.constraint == "routes_seq_unique":
            raise SequenceTaken("route", route.call_id, route.seq) from None
        raise


async def _append_event(transaction: Transaction, route: RouteRecord) -> None:
    """Append the event of a route to the account's stream, once; the last statement of its transaction."""
    missing = await transaction.fetchrow(
        """
        SELECT FROM routes WHERE account_id = $1 AND call_id = $2 AND id = $3 AND NOT EXISTS (
            SELECT 1 FROM handoff_events
            WHERE account_id = $1 AND call_id = $2 AND type = $4 AND data ->> 'route_id' = $3::text)
        """,
        route.account_id,
        route.call_id,
        route.id,
        f"route.{route.status}",
    )
    if missing is not None:
        await handoff_events.append(
            transaction,
            route.account_id,
            f"route.{route.status}",
            route.requested_at,
            call_id=route.call_id,
            kind=_KINDS[route.status],
            data={
                "route_id": str(route.id),
                "intent": route.name,
                "template_id": str(route.to_template_id) if route.to_template_id else None,
                "error_code": route.error_code,
                # The model routes without asking a person first.
                "auto_proceed": True,
                "summary": route.reason,
            },
        )


async def measured(
    db: Executor, account_id: UUID, route_id: UUID, *, first_audio_at: datetime, gap_ms: int
) -> None:
    """Add the time at which the target was first heard, and the silence before it in milliseconds.

    Raises:
        NotFound: the account has no such route.
    """
    changed = await db.execute(
        "UPDATE routes SET first_audio_at = $3, gap_ms = $4 WHERE account_id = $1 AND id = $2",
        account_id,
        route_id,
        first_audio_at,
        gap_ms,
    )
    if not changed:
        raise NotFound("route", route_id)


async def of_call(db: Executor, account_id: UUID, call_id: UUID) -> Sequence[RouteRecord]:
    """The call's routes in order; empty if the account has no such call."""
    rows = await db.fetch(
        f"SELECT {_ROUTE} FROM routes WHERE account_id = $1 AND call_id = $2 ORDER BY seq",  # noqa: S608
        account_id,
        call_id,
    )
    return [read(RouteRecord, row) for row in rows]


async def of_leads(
    db: Executor, account_id: UUID, lead_ids: Sequence[UUID]
) -> Sequence[tuple[UUID, RouteRecord]]:
    """The routes of all calls of these leads, oldest first, each with its lead's id."""
    rows = await db.fetch(
        f"""
        SELECT call.lead_id, {columns(RouteRecord, "route")}
        FROM routes route JOIN calls call ON call.account_id = route.account_id AND call.id = route.call_id
        WHERE route.account_id = $1 AND call.lead_id = ANY($2::uuid[])
        ORDER BY route.call_id, route.seq
        """,  # noqa: S608
        account_id,
        lead_ids,
    )
    return [
        (
            row["lead_id"],
            read(RouteRecord, {name: value for name, value in dict(row).items() if name != "lead_id"}),
        )
        for row in rows
    ]
