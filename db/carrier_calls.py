"""Calls as their carrier names them, and the status of the carrier's leg.

Not scoped by account: the signature of the carrier's request was verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from db.calls import CallRecord, CallStatus, CarrierStatus
from db.errors import NotFound
from db.pool import Executor
from db.rows import columns, read

_CALL = columns(CallRecord)

_PROGRESS: Sequence[CarrierStatus] = ("queued", "ringing", "in_progress")
"""The statuses before the end, in order; the others are final."""

StatusReport = tuple[str, str, CarrierStatus]
"""What a carrier reports: its name, its id of the call, and the status of its leg."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedCall:
    """What is known of a call whose carrier reports a status."""

    id: UUID
    account_id: UUID
    carrier_status: CarrierStatus
    status: CallStatus


Stored = ReportedCall | Literal["unknown", "undecided"]
"""What came of a report: its call; there is no such call; or another transaction is changing the call."""


def _advances(status: str) -> str:
    """The condition of SQL that corresponds to ``advances``; ``$4`` is ``_PROGRESS``."""
    return f"""(calls.carrier_status IS NULL OR calls.carrier_status = ANY($4::text[]))
        AND coalesce(array_position($4::text[], calls.carrier_status), 0)
            < coalesce(array_position($4::text[], {status}), 99)"""


async def by_carrier_id(db: Executor, carrier: str, carrier_call_id: str) -> CallRecord:
    """The call of a carrier's callback. Not scoped by account: the carrier's signature was verified.

    Raises:
        NotFound: no such call.
    """
    row = await db.fetchrow(
        f"SELECT {_CALL} FROM calls WHERE carrier = $1 AND carrier_call_id = $2",  # noqa: S608
        carrier,
        carrier_call_id,
    )
    if row is None:
        raise NotFound("call", carrier_call_id)
    return read(CallRecord, row)


def advances(status: CarrierStatus, stored: CarrierStatus | None) -> bool:
    """Whether a status changes the stored one: it only moves forward, and the first final one stays."""
    if stored is None:
        return True
    if stored not in _PROGRESS:
        return False
    return status not in _PROGRESS or _PROGRESS.index(status) > _PROGRESS.index(stored)


async def carrier_status(
    db: Executor, carrier: str, carrier_call_id: str, status: CarrierStatus
) -> ReportedCall:
    """Store the status of the carrier's leg. It only moves forward; the first final status stays.

    Raises:
        NotFound: no such call.
    """
    while True:
        (stored,) = await _store(db, [(carrier, carrier_call_id, status)], "")
        if stored == "unknown":
            raise NotFound("call", carrier_call_id)
        if isinstance(stored, ReportedCall):  # otherwise another transaction has changed the call meanwhile
            return stored


async def carrier_statuses(db: Executor, reports: Sequence[StatusReport]) -> Sequence[Stored]:
    """Store statuses of different calls as ``carrier_status`` does, by one statement.

    It waits for no other transaction: ``carrier_status`` decides on what is "undecided".
    """
    return await _store(db, reports, "SKIP LOCKED")


async def _store(
    db: Executor, reports: Sequence[StatusReport], lock: Literal["", "SKIP LOCKED"]
) -> Sequence[Stored]:
    carriers, carrier_call_ids, statuses = zip(*reports, strict=True)
    rows = await db.fetch(
        f"""
        WITH reported AS MATERIALIZED (
            SELECT report.place, report.status AS reported, {columns(ReportedCall, "calls")},
                {_advances("report.status")} AS advances
            FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY
                AS report (carrier, carrier_call_id, status, place)
            JOIN calls ON calls.carrier = report.carrier AND calls.carrier_call_id = report.carrier_call_id
        ), locked AS MATERIALIZED (
            SELECT calls.id, reported.reported
            FROM reported JOIN calls ON calls.id = reported.id
            WHERE reported.advances AND {_advances("reported.reported")}
            FOR NO KEY UPDATE OF calls {lock}
        ), changed AS (
            UPDATE calls SET carrier_status = locked.reported FROM locked WHERE calls.id = locked.id
            RETURNING calls.id, calls.carrier_status, calls.status
        )
        SELECT reported.place, reported.id, reported.account_id,
            coalesce(changed.carrier_status, reported.carrier_status) AS carrier_status,
            coalesce(changed.status, reported.status) AS status,
            reported.advances AND changed.id IS NULL AS undecided
        FROM reported LEFT JOIN changed ON changed.id = reported.id
        """,  # noqa: S608
        list(carriers),
        list(carrier_call_ids),
        list(statuses),
        list(_PROGRESS),
    )
    found: list[Stored] = ["unknown"] * len(reports)
    for row in rows:
        found[row["place"] - 1] = (
            "undecided"
            if row["undecided"]
            else ReportedCall(
                id=row["id"],
                account_id=row["account_id"],
                carrier_status=row["carrier_status"],
                status=row["status"],
            )
        )
    return found
