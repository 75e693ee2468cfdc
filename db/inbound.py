"""The beginning of an inbound call: the call with its lead, and who answers its number."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from db import carrier_calls, leads
from db.calls import CallRecord
from db.dispatch import CAN_DIAL
from db.errors import NoOrchestrator, NotFound, PolicyApplies, UnknownNumber
from db.ids import new_id
from db.leads import LeadDraft
from db.pool import Executor, Row, Transaction
from db.rows import columns, read
from db.templates import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundCall:
    """The facts of a carrier's voice webhook."""

    carrier: str
    carrier_call_id: str
    to_number: str
    """The number that was dialled, E.164."""
    from_number: str | None
    """As the carrier gave it."""
    started_at: datetime
    caller_known: bool = True
    """False if the caller's number is withheld; ``from_number`` may look like a number all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedCall:
    """The call of a webhook."""

    call: CallRecord
    created: bool
    """False if an earlier webhook, perhaps at another replica, has created it."""


REFUSED = "refused"
"""The end reason of a call that was not taken."""

_CALL = columns(CallRecord)
_CALL_BACK = "callback "
"""What the idempotency keys of leads begin with that call back."""

_IS_CALLED_BACK = f"""
    SELECT FROM numbers number WHERE number.account_id = $1 AND number.id = $3 AND {CAN_DIAL}
        AND NOT EXISTS (SELECT FROM opt_outs WHERE account_id = $1 AND phone = $2)
"""  # noqa: S608

_E164 = re.compile(r"\+[1-9][0-9]{1,14}")


# `answering` names the account, the number, the template and its revision.
_BEGIN = f"""
    WITH answering AS ({{}}), made AS (
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
"""  # noqa: S608 - only column names

_BEGIN_WITH_ORCHESTRATOR = _BEGIN.format("""
    SELECT number.account_id, number.id AS number_id, template.id AS template_id, template.revision
    FROM numbers number JOIN templates template
        ON template.account_id = number.account_id AND template.number_id = number.id
        AND template.kind = 'orchestrator' AND template.status = 'active'
    WHERE number.carrier = $1 AND number.e164 = $3 AND number.active AND number.inbound = '{}'
        AND template.content ->> 'inbound' IS NULL
""")
_BEGIN_WITH = _BEGIN.format("""
    SELECT $9::uuid AS account_id, $10::uuid AS number_id, $11::uuid AS template_id, $12::int AS revision
""")


async def begin(db: Executor, inbound: InboundCall) -> StartedCall:
    """The call of a voice webhook: created with its lead, or found if the webhook was sent before.

    The number determines the account and the active orchestrator, whose revision the call keeps.

    Raises:
        UnknownNumber: no account has this number active at this carrier.
        NoOrchestrator: the number has no active orchestrator.
        PolicyApplies: it has one, and one of both has a policy for inbound calls; ``begin_with`` begins the
            call.
    """
    row = await _begin(db, _BEGIN_WITH_ORCHESTRATOR, inbound)
    if row is not None:
        return StartedCall(call=read(CallRecord, row), created=True)
    try:
        found = await carrier_calls.by_carrier_id(db, inbound.carrier, inbound.carrier_call_id)
    except NotFound:
        raise await _refusal(db, inbound) from None
    return StartedCall(call=found, created=False)


async def _begin(db: Executor, statement: str, inbound: InboundCall, *answering: object) -> Row | None:
    return await db.fetchrow(
        statement,
        inbound.carrier,
        inbound.carrier_call_id,
        inbound.to_number,
        inbound.from_number,
        inbound.started_at,
        new_id(),
        new_id(),
        caller_of(inbound),
        *answering,
    )


def caller_of(inbound: InboundCall) -> str | None:
    """The caller's number, E.164; None if it is withheld or something else."""
    is_number = inbound.caller_known and _E164.fullmatch(inbound.from_number or "")
    return inbound.from_number if is_number else None


async def _refusal(db: Executor, inbound: InboundCall) -> UnknownNumber | NoOrchestrator | PolicyApplies:
    row = await db.fetchrow(
        """
        SELECT id, fallback_number, EXISTS (
            SELECT FROM templates template WHERE template.account_id = numbers.account_id
                AND template.number_id = numbers.id AND kind = 'orchestrator' AND status = 'active'
        ) AS answered
        FROM numbers WHERE carrier = $1 AND e164 = $2 AND active
        """,
        inbound.carrier,
        inbound.to_number,
    )
    if row is None:
        return UnknownNumber(inbound.carrier, inbound.to_number)
    return PolicyApplies(row["id"]) if row["answered"] else NoOrchestrator(row["id"], row["fallback_number"])


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweringTemplate:
    """An active template of a number."""

    id: UUID
    name: str
    kind: Kind
    revision: int
    language: str
    """BCP 47."""
    inbound: Mapping[str, Any] | None = None
    """Its policy for inbound calls; None: it takes all that the number takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledNumber:
    """What a decision about an inbound call needs of the number."""

    id: UUID
    account_id: UUID
    time_zone: str
    fallback_number: str | None
    inbound: Mapping[str, Any]
    templates: Sequence[AnsweringTemplate]
    """The active ones, oldest first."""


async def called_number(db: Transaction, inbound: InboundCall) -> CalledNumber:
    """The number of a voice webhook, locked, so that two calls do not both find the last place.

    Raises:
        UnknownNumber: no account has this number active at this carrier.
    """
    row = await db.fetchrow(
        """
        SELECT id, account_id, time_zone, fallback_number, inbound FROM numbers
        WHERE carrier = $1 AND e164 = $2 AND active FOR NO KEY UPDATE
        """,
        inbound.carrier,
        inbound.to_number,
    )
    if row is None:
        raise UnknownNumber(inbound.carrier, inbound.to_number)
    templates = await db.fetch(
        """
        SELECT id, name, kind, revision, coalesce(content ->> 'language', 'en-US') AS language,
            content -> 'inbound' AS inbound
        FROM templates WHERE account_id = $1 AND number_id = $2 AND status = 'active' ORDER BY id
        """,
        row["account_id"],
        row["id"],
    )
    return CalledNumber(**dict(row), templates=[read(AnsweringTemplate, template) for template in templates])


_TAKEN_BY = "initial_template_id = ${place} AND offered_template_ids IS NULL"
"""Condition: a template took the call; while its caller hears a menu, nobody has."""


async def live_calls(db: Executor, number_id: UUID, template_id: UUID | None = None) -> int:
    """How many inbound calls of a number have not ended; only those that a template took, if it is given."""
    row = await db.fetchrow(
        f"""
        SELECT count(*) AS calls FROM calls
        WHERE number_id = $1 AND direction = 'inbound' AND status <> 'ended'
            AND ($2::uuid IS NULL OR {_TAKEN_BY.format(place=2)})
        """,  # noqa: S608
        number_id,
        template_id,
    )
    return 0 if row is None else int(row["calls"])


async def taken_calls(
    db: Executor, number_id: UUID, caller: str, since: datetime, template_id: UUID | None = None
) -> int:
    """How many calls of a caller to a number were taken since a moment; by a template, if it is given."""
    row = await db.fetchrow(
        f"""
        SELECT count(*) AS calls FROM calls
        WHERE number_id = $1 AND from_number = $2 AND direction = 'inbound' AND started_at > $3
            AND end_reason IS DISTINCT FROM $4 AND ($5::uuid IS NULL OR {_TAKEN_BY.format(place=5)})
        """,  # noqa: S608
        number_id,
        caller,
        since,
        REFUSED,
        template_id,
    )
    return 0 if row is None else int(row["calls"])


async def forwarded_calls(db: Executor, number_id: UUID, caller: str, since: datetime) -> int:
    """How many calls of a caller to a number were refused and connected with another one since a moment."""
    row = await db.fetchrow(
        """
        SELECT count(*) AS calls FROM calls
        WHERE number_id = $1 AND from_number = $2 AND direction = 'inbound' AND started_at > $3
            AND end_reason = $4 AND connect_to IS NOT NULL
        """,
        number_id,
        caller,
        since,
        REFUSED,
    )
    return 0 if row is None else int(row["calls"])


async def begin_with(
    db: Transaction, inbound: InboundCall, number: CalledNumber, template: AnsweringTemplate
) -> StartedCall:
    """Create the call of a voice webhook, which ``template`` answers, with its lead; or find it."""
    row = await _begin(db, _BEGIN_WITH, inbound, number.account_id, number.id, template.id, template.revision)
    if row is not None:
        return StartedCall(call=read(CallRecord, row), created=True)
    found = await carrier_calls.by_carrier_id(db, inbound.carrier, inbound.carrier_call_id)
    return StartedCall(call=found, created=False)


async def offer(db: Transaction, call: CallRecord, template_ids: Sequence[UUID]) -> None:
    """The caller hears a menu of agents; the call's lease is extended by the time that this may take."""
    await db.execute(
        """
        UPDATE calls SET offered_template_ids = $3, held_until = now() + interval '3 minutes'
        WHERE account_id = $1 AND id = $2 AND status = 'ringing'
        """,
        call.account_id,
        call.id,
        template_ids,
    )


async def choose(db: Transaction, call: CallRecord, template: AnsweringTemplate) -> StartedCall:
    """The call begins with the agent that its caller has chosen from a menu, and so does its lead."""
    row = await db.fetchrow(
        f"""
        WITH call AS (
            UPDATE calls SET initial_template_id = $3, template_id = $3, offered_template_ids = NULL,
                revisions = jsonb_build_object($3::uuid, $4::integer)
            WHERE account_id = $1 AND id = $2 AND status = 'ringing'
            RETURNING {_CALL}
        ), lead AS (
            UPDATE leads SET initial_template_id = $3, template_id = $3
            FROM call WHERE leads.account_id = $1 AND leads.id = call.lead_id
        )
        SELECT {_CALL} FROM call
        """,  # noqa: S608
        call.account_id,
        call.id,
        template.id,
        template.revision,
    )
    return StartedCall(call=call if row is None else read(CallRecord, row), created=row is not None)


async def call_back(db: Transaction, call: CallRecord, template_id: UUID, caller: str) -> UUID | None:
    """The lead with which a caller is called back; None: nobody may call them, or the number cannot dial.

    One that waits already is not made a second time. The number of the call must be locked
    (``called_number``).
    """
    if await db.fetchrow(_IS_CALLED_BACK, call.account_id, caller, call.number_id) is None:
        return None
    row = await db.fetchrow(
        """
        SELECT id FROM leads
        WHERE account_id = $1 AND phone = $2 AND number_id = $3 AND initial_template_id = $4
            AND direction = 'outbound' AND status IN ('queued', 'held', 'dialing')
            AND starts_with(idempotency_key, $5)
        """,
        call.account_id,
        caller,
        call.number_id,
        template_id,
        _CALL_BACK,
    )
    if row is not None:
        waiting: UUID = row["id"]
        return waiting
    lead = LeadDraft(
        direction="outbound", phone=caller, number_id=call.number_id, template_id=template_id, payload={},
        variables={},
    )  # fmt: skip
    return await leads.add(db, call.account_id, lead, idempotency_key=f"{_CALL_BACK}{call.id}")
