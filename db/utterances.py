"""The utterances of calls: what was said, by whom, under which template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from db.errors import ConstraintViolated, SequenceTaken
from db.pool import Executor
from db.rows import columns, read

Speaker = Literal["caller", "agent", "operator", "system"]
Source = Literal["stt", "llm", "greeting", "filler"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceRecord:
    """What one party said. Times are in milliseconds since the call was answered."""

    id: UUID
    account_id: UUID
    call_id: UUID
    seq: int
    """Position in the call's transcript, from 1."""
    speaker: Speaker
    template_id: UUID | None
    node: str | None
    text: str
    heard_text: str | None
    """Of an agent's utterance, what had been played when the caller interrupted."""
    interrupted: bool
    source: Source
    started_ms: int
    ended_ms: int | None


_UTTERANCE = columns(UtteranceRecord)


async def record(db: Executor, utterance: UtteranceRecord) -> None:
    """Write an utterance, or update it.

    Raises:
        SequenceTaken: another utterance of the call has this ``seq``.
        ConstraintViolated: the account has no such call or template.
    """
    try:
        await db.execute(
            f"""
            INSERT INTO utterances ({_UTTERANCE})
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
            ON CONFLICT (id) DO UPDATE SET text = EXCLUDED.text, heard_text = EXCLUDED.heard_text,
                interrupted = EXCLUDED.interrupted, ended_ms = EXCLUDED.ended_ms, node = EXCLUDED.node
            WHERE utterances.account_id = EXCLUDED.account_id AND utterances.call_id = EXCLUDED.call_id
            """,  # noqa: S608 - only column names
            utterance.id,
            utterance.account_id,
            utterance.call_id,
            utterance.seq,
            utterance.speaker,
            utterance.template_id,
            utterance.node,
            utterance.text,
            utterance.heard_text,
            utterance.interrupted,
            utterance.source,
            utterance.started_ms,
            utterance.ended_ms,
        )
    except ConstraintViolated as error:
        if error.constraint == "utterances_seq_unique":
            raise SequenceTaken("utterance", utterance.call_id, utterance.seq) from None
        raise


async def of_call(db: Executor, account_id: UUID, call_id: UUID) -> Sequence[UtteranceRecord]:
    """The call's transcript in order; empty if the account has no such call."""
    rows = await db.fetch(
        f"SELECT {_UTTERANCE} FROM utterances WHERE account_id = $1 AND call_id = $2 ORDER BY seq",  # noqa: S608
        account_id,
        call_id,
    )
    return [read(UtteranceRecord, row) for row in rows]
