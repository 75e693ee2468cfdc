"""Deletes what an account does not want to keep any longer: transcripts of calls, and payloads of leads.

What happened stays: calls, routes, outcomes, costs, and who opted out. Each statement deletes a batch.
"""

from __future__ import annotations

from datetime import datetime

from db.pool import Executor

_TELLS = """
    UPDATE handoff_events event SET data = jsonb_set(data, '{{summary}}', '""') FROM due
    WHERE event.account_id = due.account_id AND event.{column} = due.id AND data ? 'summary'
        AND (kind IS NULL OR line IS NOT NULL)
"""
"""Removes what events of handoffs and routes say; those that are still to be in the journal stay."""


async def delete_transcripts(db: Executor, now: datetime, limit: int) -> int:
    """Delete the transcripts of calls whose time is over; returns how many calls had one.

    Deleted are the utterances, the requests to models, the variables, the output fields, the data of the
    events, the reasons of routes, and the snapshots of handoffs.
    """
    return await db.execute(
        f"""
        WITH due AS (
            SELECT call.id, account.id AS account_id FROM accounts account CROSS JOIN LATERAL (
                SELECT id FROM calls
                WHERE account_id = account.id AND status = 'ended' AND transcript_deleted_at IS NULL
                    AND finalised_at IS NOT NULL
                    AND ended_at < $1::timestamptz - make_interval(days => account.transcripts_days)
                ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED
            ) call
            WHERE account.transcripts_days IS NOT NULL LIMIT $2
        ), said AS (
            DELETE FROM utterances USING due WHERE utterances.call_id = due.id
        ), asked AS (
            DELETE FROM model_requests USING due WHERE model_requests.call_id = due.id
        ), happened AS (
            UPDATE events SET data = '{{}}' FROM due WHERE events.call_id = due.id AND events.data <> '{{}}'
        ), told AS (
            {_TELLS.format(column="call_id")}
        ), routed AS (
            UPDATE routes SET reason = '' FROM due WHERE routes.call_id = due.id
        ), handed_over AS (
            UPDATE handoffs SET snapshot = '{{}}' FROM due WHERE handoffs.call_id = due.id
        )
        UPDATE calls SET variables = '{{}}', output = NULL, transcript_deleted_at = $1
        FROM due WHERE calls.id = due.id
        """,  # noqa: S608 - only constants
        now,
        limit,
    )


async def delete_handoff_texts(db: Executor, now: datetime, limit: int) -> int:
    """Delete what ended handoffs say of their callers: reason, notes, assessment, resolution, snapshot."""
    return await db.execute(
        f"""
        WITH due AS (
            SELECT handoff.id, account.id AS account_id FROM accounts account CROSS JOIN LATERAL (
                SELECT id FROM handoffs
                WHERE account_id = account.id AND text_deleted_at IS NULL
                    AND ended_at < $1::timestamptz - make_interval(days => account.transcripts_days)
                ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED
            ) handoff
            WHERE account.transcripts_days IS NOT NULL LIMIT $2
        ), told AS (
            {_TELLS.format(column="handoff_id")}
        )
        UPDATE handoffs SET reason = '', notes = '', assessment = NULL, resolution = NULL, snapshot = '{{}}',
            text_deleted_at = $1
        FROM due WHERE handoffs.id = due.id
        """,  # noqa: S608 - only constants
        now,
        limit,
    )


async def delete_payloads(db: Executor, now: datetime, limit: int) -> int:
    """Delete payload and variables of leads that ended long enough ago; returns how many leads.

    Greetings that say them are deleted, too.
    """
    return await db.execute(
        """
        WITH due AS (
            SELECT lead.id, account.id AS account_id FROM accounts account CROSS JOIN LATERAL (
                SELECT id FROM leads
                WHERE account_id = account.id AND payload_deleted_at IS NULL
                    AND finished_at < $1::timestamptz - make_interval(days => account.payloads_days)
                ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED
            ) lead
            WHERE account.payloads_days IS NOT NULL LIMIT $2
        ), said AS (
            DELETE FROM greetings USING due
            WHERE greetings.account_id = due.account_id AND greetings.lead_id = due.id
        )
        UPDATE leads SET payload = '{}', variables = '{}', payload_deleted_at = $1
        FROM due WHERE leads.id = due.id
        """,
        now,
        limit,
    )


async def delete_notices(db: Executor, now: datetime, limit: int) -> int:
    """Delete the messages of old notices: they repeat the output, or a handoff with its transcript.

    Those that are still to be sent stay.
    """
    return await db.execute(
        """
        WITH due AS (
            SELECT notice.id FROM outbox notice JOIN accounts account ON account.id = notice.account_id
            WHERE notice.state IN ('sent', 'dead', 'cancelled')
                AND notice.message <> '{}' AND account.transcripts_days IS NOT NULL
                AND notice.created_at < $1::timestamptz - make_interval(days => account.transcripts_days)
            LIMIT $2 FOR UPDATE OF notice SKIP LOCKED
        )
        UPDATE outbox SET message = '{}' FROM due WHERE outbox.id = due.id
        """,
        now,
        limit,
    )
