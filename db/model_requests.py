"""The requests to the language models of calls. They are written once and never changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from db.errors import ConstraintViolated, SequenceTaken
from db.pool import Executor
from db.rows import Page, columns, page, read

RequestStatus = Literal["done", "interrupted", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequestRecord:
    """One request to the language model of a call, and its answer."""

    id: UUID
    account_id: UUID
    call_id: UUID
    seq: int
    """The number of the request within its call, from 1."""
    at: datetime
    """When it was made."""
    template_id: UUID
    """The agent who had the call."""
    node: str | None
    shared: int
    """How many messages at its beginning it has in common with the request before."""
    messages: Sequence[Any]
    """The messages, instructions first, in the form of OpenAI's chat completions."""
    tools: Sequence[Any] | None
    """The functions that the model was offered, with their parameters as JSON Schema."""
    settings: Mapping[str, Any]
    """The provider, the model, and the template's ``llm.settings``."""
    text: str
    """The words of the answer."""
    function_calls: Sequence[Any]
    """The functions that the model called: ``name`` and ``arguments``."""
    status: RequestStatus
    """``interrupted``: the caller spoke, or the agent changed, before the answer was complete."""
    error: Mapping[str, Any] | None
    """Of a failed request: ``type``, the vendor's ``code`` and ``http_status``, and ``message``."""
    first_token_ms: int | None
    """Milliseconds until the first word or function call; None if there was none."""
    total_ms: int
    """Milliseconds until the answer was complete, failed or was interrupted."""
    tokens: Mapping[str, int] | None
    """``prompt``, ``completion`` and ``cached`` tokens as the vendor counts them; None if it did not say."""
    cost_usd: float | None
    """By the vendor's list price; None if the price or the tokens are unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """What the requests of a call to one model used."""

    provider: str
    model: str
    prompt: int
    """Tokens of the requests, with the cached ones."""
    cached: int
    completion: int
    """Tokens of the answers."""
    cost_usd: float | None
    """By the vendor's list price; None if it is unknown for one of them."""


_REQUEST = columns(ModelRequestRecord)
_ATTEMPTS = 5


async def append(db: Executor, request: ModelRequestRecord, *, same_tools: bool) -> None:
    """Write a request with the next number of its call, ignoring its ``seq``; again changes nothing.

    Args:
        db: the database.
        request: with all its messages, of which those in common with the request before are not stored.
        same_tools: whether the tools are those of the request before.

    Raises:
        SequenceTaken: other processes wrote at the same time in every attempt; try again.
        ConstraintViolated: the account has no such call or template.
    """
    for _ in range(_ATTEMPTS):
        try:
            async with db.transaction() as attempt:  # inside another one, only this one fails
                await attempt.execute(
                    f"""
                    INSERT INTO model_requests ({_REQUEST})
                    SELECT $1, $2, $3, coalesce(max(seq), 0) + 1, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
                        $14, $15, $16, $17, $18
                    FROM model_requests WHERE call_id = $3
                    ON CONFLICT (id) DO NOTHING
                    """,  # noqa: S608 - only column names
                    request.id,
                    request.account_id,
                    request.call_id,
                    request.at,
                    request.template_id,
                    request.node,
                    request.shared,
                    request.messages[request.shared :],
                    None if same_tools else request.tools,
                    request.settings,
                    request.text,
                    request.function_calls,
                    request.status,
                    request.error,
                    request.first_token_ms,
                    request.total_ms,
                    request.tokens,
                    request.cost_usd,
                )
        except ConstraintViolated as error:
            if error.constraint != "model_requests_seq_unique":
                raise
        else:
            return
    raise SequenceTaken("model request", request.call_id, request.seq)


async def of_call(
    db: Executor, account_id: UUID, call_id: UUID, *, after: int = 0, limit: int
) -> Page[ModelRequestRecord]:
    """The call's requests in order, each with all its messages; empty if the account has no such call.

    Args:
        db: the database.
        account_id: the account.
        call_id: the call.
        after: the number of the request before the page.
        limit: maximum number of requests of the page.
    """
    rows = await db.fetch(
        f"""
        SELECT {_REQUEST} FROM model_requests WHERE account_id = $1 AND call_id = $2 AND seq <= $3
        ORDER BY seq
        """,  # noqa: S608 - only column names
        account_id,
        call_id,
        after + limit + 1,
    )
    found: list[ModelRequestRecord] = []
    before: ModelRequestRecord | None = None
    for row in rows:
        before = _complete(read(ModelRequestRecord, row), before)
        if before.seq > after:
            found.append(before)
    return page(found, limit, lambda each: each.seq)


def _complete(stored: ModelRequestRecord, before: ModelRequestRecord | None) -> ModelRequestRecord:
    shared = before.messages[: stored.shared] if before is not None else ()
    tools = stored.tools if stored.tools is not None or before is None else before.tools
    return replace(stored, messages=[*shared, *stored.messages], tools=tools)
