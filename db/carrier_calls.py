"""Calls as their carrier names them, and the status of the carrier's leg.

Not scoped by account: the signature of the carrier's request was verified.
"""

from __future__ import annotations

from db.calls import CallRecord, CarrierStatus
from db.errors import NotFound
from db.pool import Executor
from db.rows import columns, read

_CALL = columns(CallRecord)


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


async def carrier_status(
    db: Executor, carrier: str, carrier_call_id: str, status: CarrierStatus
) -> CallRecord:
    """Store the status of the carrier's leg. It only moves forward; the first terminal status stays.

    Raises:
        NotFound: no such call.
    """
    row = await db.fetchrow(
        f"""
        WITH changed AS (
            UPDATE calls SET carrier_status = $3
            WHERE carrier = $1 AND carrier_call_id = $2
                AND (carrier_status IS NULL OR carrier_status = ANY($4::text[]))
                AND coalesce(array_position($4::text[], carrier_status), 0)
                    < coalesce(array_position($4::text[], $3), 99)
            RETURNING {_CALL}
        )
        SELECT {_CALL} FROM changed
        UNION ALL
        SELECT {_CALL} FROM calls
        WHERE carrier = $1 AND carrier_call_id = $2 AND NOT EXISTS (SELECT FROM changed)
        """,  # noqa: S608
        carrier,
        carrier_call_id,
        status,
        ["queued", "ringing", "in_progress"],
    )
    if row is None:
        raise NotFound("call", carrier_call_id)
    return read(CallRecord, row)
