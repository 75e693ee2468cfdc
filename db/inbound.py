"""The beginning of a call that comes in: from a carrier's webhook to a call with its lead, once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from db import calls
from db.calls import CallRecord, Carrier
from db.errors import NoOrchestrator, NotFound, UnknownNumber
from db.ids import new_id
from db.pool import Executor
from db.rows import columns, read


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundCall:
    """What a carrier's voice webhook says."""

    carrier: Carrier
    carrier_call_id: str
    to_number: str
    """The number that was dialled, E.164."""
    from_number: str | None
    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedCall:
    """The call a webhook speaks of."""

    call: CallRecord
    created: bool
    """False when an earlier webhook (perhaps on another replica) made it."""


_CALL = columns(CallRecord)
_E164 = re.compile(r"\+[1-9][0-9]{1,14}")


async def begin(db: Executor, inbound: InboundCall) -> StartedCall:
    """The call of a voice webhook: made with its lead, or found when the webhook has come before.

    The number names the account and the active orchestrator, whose revision the call keeps.

    Raises:
        UnknownNumber: nobody has the number active with this carrier.
        NoOrchestrator: the number is known, but nothing answers it.
    """
    phone = inbound.from_number if _E164.fullmatch(inbound.from_number or "") else None
    row = await db.fetchrow(
        f"""
        WITH answering AS (
            SELECT number.account_id, number.id AS number_id, template.id AS template_id, template.revision
            FROM numbers number JOIN templates template
                ON template.account_id = number.account_id AND template.number_id = number.id
                AND template.kind = 'orchestrator' AND template.status = 'active'
            WHERE number.carrier = $1 AND number.e164 = $3 AND number.active
        ), made AS (
            INSERT INTO calls (id, account_id, lead_id, number_id, carrier, carrier_call_id, direction,
                from_number, to_number, initial_template_id, template_id, revisions, status, started_at)
            SELECT $6, account_id, $7, number_id, $1, $2, 'inbound', $4, $3, template_id, template_id,
                jsonb_build_object(template_id, revision), 'ringing', $5 FROM answering
            ON CONFLICT (carrier, carrier_call_id) DO NOTHING
            RETURNING {_CALL}
        ), lead AS (
            INSERT INTO leads (id, account_id, direction, phone, number_id, initial_template_id, template_id,
                status, created_at)
            SELECT lead_id, account_id, 'inbound', $8, number_id, template_id, template_id, 'new', $5
            FROM made
        )
        SELECT {_CALL} FROM made
        """,  # noqa: S608 - only column names
        inbound.carrier,
        inbound.carrier_call_id,
        inbound.to_number,
        inbound.from_number,
        inbound.started_at,
        new_id(),
        new_id(),
        phone,
    )
    if row is not None:
        return StartedCall(call=read(CallRecord, row), created=True)
    try:
        return StartedCall(
            call=await calls.by_carrier_id(db, inbound.carrier, inbound.carrier_call_id), created=False
        )
    except NotFound:
        raise await _nobody_answers(db, inbound) from None


async def _nobody_answers(db: Executor, inbound: InboundCall) -> UnknownNumber | NoOrchestrator:
    row = await db.fetchrow(
        "SELECT id, fallback_number FROM numbers WHERE carrier = $1 AND e164 = $2 AND active",
        inbound.carrier,
        inbound.to_number,
    )
    if row is None:
        return UnknownNumber(inbound.carrier, inbound.to_number)
    return NoOrchestrator(row["id"], row["fallback_number"])
