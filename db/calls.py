"""Calls: their progress and their end. How an inbound call begins is in ``db.inbound``.

Every function may be repeated with the same arguments, because after a lost connection it is not known
whether a statement was executed. Nothing changes a call that has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from db.errors import NotFound
from db.pool import Executor, Row
from db.rows import columns, read

Direction = Literal["inbound", "outbound"]
CallStatus = Literal["ringing", "in_progress", "transferring", "ended"]
LiveStatus = Literal["ringing", "in_progress", "transferring"]
EndedBy = Literal["caller", "agent", "operator", "carrier", "system"]
AnsweredBy = Literal["human", "machine", "unknown"]
VOICEMAIL = "voicemail"
"""The end reason of a call that an answering machine answered, with or without a message."""

CarrierStatus = Literal[
    "queued", "ringing", "in_progress", "completed", "busy", "no_answer", "failed", "canceled"
]
"""The status of the carrier's leg: the first three come in this order, the others are final."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One call, from the carrier's first word of it."""

    id: UUID
    account_id: UUID
    lead_id: UUID
    number_id: UUID
    carrier: str
    carrier_call_id: str | None
    carrier_status: CarrierStatus | None
    direction: Direction
    from_number: str | None
    """As the carrier gave it: E.164, or a word such as ``anonymous``."""
    to_number: str
    initial_template_id: UUID
    template_id: UUID
    """The agent the caller is with."""
    revisions: Mapping[str, int]
    """Template id → the revision this call began with and keeps."""
    node: str | None
    variables: Mapping[str, Mapping[str, Any]]
    """The agents' variables by the agents' names on the call, in case the call is resumed."""
    status: CallStatus
    ended_by: EndedBy | None
    end_reason: str | None
    outcome: str | None
    resumes: int
    handovers: int
    """How many of the resumes were requested by a stopping process."""
    connect_to: str | None = None
    """The number (E.164) with which the carrier's flow connects the caller after the stream has ended."""
    reconnecting: bool = False
    """Whether another media stream was announced to the carrier and has not begun yet."""
    started_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None
    cost: Mapping[str, Any] | None = None
    """What the providers charged, by provider (``currency``, ``total``, ``items``), soon after the end."""
    answered_by: AnsweredBy | None = None
    """Who answered an outbound call, according to the carrier or the words on the call."""
    output: Mapping[str, Any] | None = None
    """The template's ``outbound.output`` fields, soon after the end; null if they could not be filled."""
    offered_template_ids: Sequence[UUID] | None = None
    """The agents of the menu that the caller hears, by their keys from 1; None: there was none, or one of
    them has been chosen."""

    @property
    def duration_ms(self) -> int | None:
        """Milliseconds from the answer to the end; None while the call lasts or if it was not answered."""
        if self.answered_at is None or self.ended_at is None:
            return None
        return max(0, round((self.ended_at - self.answered_at) / timedelta(milliseconds=1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedCall:
    """A call that has ended."""

    call: CallRecord
    first: bool
    """Whether the end in ``call`` is the one just given; a later end does not replace an earlier one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnd:
    """How a call ended."""

    ended_by: EndedBy
    end_reason: str
    outcome: str | None
    """None keeps the outcome recorded during the call."""
    ended_at: datetime


_CALL = columns(CallRecord)
_MACHINE_LEFT = "machine_action_at IS NOT NULL"
"""Condition: we left a machine; who reports the end of the call then saw only the carrier's part of it."""


async def get(db: Executor, account_id: UUID, call_id: UUID) -> CallRecord:
    """One call.

    Raises:
        NotFound: the account has no such call.
    """
    row = await db.fetchrow(
        f"SELECT {_CALL} FROM calls WHERE account_id = $1 AND id = $2",  # noqa: S608
        account_id,
        call_id,
    )
    return _found(row, call_id)


async def answered(
    db: Executor, account_id: UUID, call_id: UUID, at: datetime, *, held_by: UUID | None = None
) -> CallRecord:
    """The media stream has begun at the process ``held_by``: call and lead are in progress.

    The time of the first answer stays.

    Raises:
        NotFound: the account has no such call.
    """
    row = await db.fetchrow(
        f"""
        WITH call AS (
            UPDATE calls SET answered_at = coalesce(answered_at, $3), held_by = $4, reconnecting = false,
                status = CASE status WHEN 'ringing' THEN 'in_progress' ELSE status END
            WHERE account_id = $1 AND id = $2 AND status <> 'ended'
            RETURNING {_CALL}
        ), lead AS (
            UPDATE leads SET status = CASE leads.status WHEN 'new' THEN 'in_progress' ELSE 'in_call' END
            FROM call
            WHERE leads.account_id = $1 AND leads.id = call.lead_id
                AND (leads.status = 'new' OR leads.status = 'dialing')
        )
        SELECT {_CALL} FROM call
        """,  # noqa: S608
        account_id,
        call_id,
        at,
        held_by,
    )
    return await _changed_or_ended(db, row, account_id, call_id)


async def resumed(db: Executor, account_id: UUID, call_id: UUID, resumes: int) -> CallRecord:
    """Record that the call's media stream will be opened again; ``resumes`` counts this and only grows.

    The lease is extended by the time that a carrier takes to connect.

    Raises:
        NotFound: the account has no such call.
    """
    held = "held_until = greatest(held_until, now() + interval '90 seconds')"
    return await _change(db, f"resumes = greatest(resumes, $3), {held}", account_id, call_id, resumes)


async def reconnect(
    db: Executor, account_id: UUID, call_id: UUID, *, limit: int | None = None
) -> CallRecord | None:
    """The call's media stream has ended and another one is announced to the carrier.

    Repeating it changes nothing until that stream has begun. The lease is extended by the time that a carrier
    takes to connect. Before the answer nothing is resumed: such a call is tried again for the rest of its
    lease, and not counted.

    Args:
        db: the database.
        account_id: the account.
        call_id: the call.
        limit: how many times a stream may be lost; one that a process gave up as it stopped does not count.

    Returns:
        None: the call has ended or is with a person, or too many streams were lost.
    """
    row = await db.fetchrow(
        f"""
        UPDATE calls SET reconnecting = answered_at IS NOT NULL,
            resumes = resumes + CASE WHEN reconnecting OR answered_at IS NULL THEN 0 ELSE 1 END,
            held_until = CASE WHEN answered_at IS NULL THEN held_until
                ELSE greatest(held_until, now() + interval '90 seconds') END
        WHERE account_id = $1 AND id = $2 AND (status = 'ringing' OR status = 'in_progress')
            AND (reconnecting OR answered_at IS NULL OR $3::integer IS NULL OR resumes - handovers < $3)
        RETURNING {_CALL}
        """,  # noqa: S608
        account_id,
        call_id,
        limit,
    )
    return None if row is None else read(CallRecord, row)


async def handed_over(db: Executor, account_id: UUID, call_id: UUID, handovers: int) -> CallRecord:
    """Record that the process of the call stops; ``handovers`` counts this and only grows.

    Raises:
        NotFound: the account has no such call.
    """
    return await _change(db, "handovers = greatest(handovers, $3)", account_id, call_id, handovers)


async def set_status(db: Executor, account_id: UUID, call_id: UUID, status: LiveStatus) -> CallRecord:
    """Move a live call to another live status. An ended call stays ended, as the record says.

    Raises:
        NotFound: the account has no such call.
    """
    return await _change(db, "status = $3", account_id, call_id, status)


async def set_node(db: Executor, account_id: UUID, call_id: UUID, node: str) -> CallRecord:
    """The flow has entered a node.

    Raises:
        NotFound: the account has no such call.
    """
    return await _change(db, "node = $3", account_id, call_id, node)


async def keep_variables(
    db: Executor, account_id: UUID, call_id: UUID, agent: str, values: Mapping[str, Any]
) -> CallRecord:
    """Store the current variables of an agent.

    Raises:
        NotFound: the account has no such call.
    """
    return await _change(db, "variables = variables || $3::jsonb", account_id, call_id, {agent: dict(values)})


async def keep_revisions(
    db: Executor, account_id: UUID, call_id: UUID, revisions: Mapping[UUID, int]
) -> CallRecord:
    """Store which revisions the call uses; a stored one is not replaced.

    Raises:
        NotFound: the account has no such call.
    """
    named = {str(template_id): revision for template_id, revision in revisions.items()}
    return await _change(db, "revisions = $3::jsonb || revisions", account_id, call_id, named)


async def record_outcome(db: Executor, account_id: UUID, call_id: UUID, outcome: str) -> CallRecord:
    """Store the outcome of the call, on its lead too; until the end, a later outcome replaces it.

    Raises:
        NotFound: the account has no such call.
    """
    row = await db.fetchrow(
        f"""
        WITH call AS (
            UPDATE calls SET outcome = $3
            WHERE account_id = $1 AND id = $2 AND status <> 'ended'
            RETURNING {_CALL}
        ), lead AS (
            UPDATE leads SET outcome = $3 FROM call WHERE leads.account_id = $1 AND leads.id = call.lead_id
        )
        SELECT {_CALL} FROM call
        """,  # noqa: S608
        account_id,
        call_id,
        outcome,
    )
    return await _changed_or_ended(db, row, account_id, call_id)


def ending(ended_by: str, end_reason: str, outcome: str, ended_at: str) -> str:
    """The assignments of SQL that end a call; the arguments are expressions of SQL that say how."""
    return f"""
        status = 'ended', ended_by = CASE WHEN {_MACHINE_LEFT} THEN 'system' ELSE {ended_by} END,
        end_reason = CASE WHEN {_MACHINE_LEFT} THEN '{VOICEMAIL}' ELSE {end_reason} END,
        outcome = coalesce({outcome}, calls.outcome), ended_at = {ended_at}
    """


FINISH_LEADS = """
    UPDATE leads SET status = 'finished', outcome = coalesce(call.outcome, leads.outcome),
        finished_at = call.ended_at
    FROM call
    WHERE leads.account_id = call.account_id AND leads.id = call.lead_id AND leads.status <> 'finished'
        AND leads.direction = 'inbound'
"""
"""The statement that ends the inbound leads of the calls ``call``, which have ended."""

_FINISH = f"""
    WITH call AS (
        UPDATE calls SET {ending("$3", "$4", "$5", "$6")}
        WHERE account_id = $1 AND id = $2 AND status <> 'ended'
        RETURNING {_CALL}
    ), lead AS ({FINISH_LEADS})
    SELECT {_CALL} FROM call
"""  # noqa: S608


async def finish(db: Executor, account_id: UUID, call_id: UUID, end: CallEnd) -> FinishedCall:
    """End the call and its inbound lead by one conditional statement, so that the first end stays.

    What follows is decided when the call is finalised (``db.finalisation``).

    Raises:
        NotFound: the account has no such call.
    """
    row = await db.fetchrow(
        _FINISH, account_id, call_id, end.ended_by, end.end_reason, end.outcome, end.ended_at
    )
    call = await _changed_or_ended(db, row, account_id, call_id)
    # The repetition of a statement that was executed, although its answer was lost, is the first end too.
    is_same = (call.ended_by, call.end_reason) == (end.ended_by, end.end_reason)
    ours = (is_same or call.end_reason == VOICEMAIL) and call.ended_at == end.ended_at
    return FinishedCall(call=call, first=row is not None or ours)


async def _change(
    db: Executor, assignment: str, account_id: UUID, call_id: UUID, value: object
) -> CallRecord:
    row = await db.fetchrow(
        f"""
        UPDATE calls SET {assignment} WHERE account_id = $1 AND id = $2 AND status <> 'ended'
        RETURNING {_CALL}
        """,  # noqa: S608 - the assignments are written above
        account_id,
        call_id,
        value,
    )
    return await _changed_or_ended(db, row, account_id, call_id)


async def _changed_or_ended(db: Executor, row: Row | None, account_id: UUID, call_id: UUID) -> CallRecord:
    return await get(db, account_id, call_id) if row is None else read(CallRecord, row)


def _found(row: Row | None, call_id: UUID) -> CallRecord:
    if row is None:
        raise NotFound("call", call_id)
    return read(CallRecord, row)
