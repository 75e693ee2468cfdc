"""The records that the costs of calls depend on, read by one statement for several calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar
from uuid import UUID

from db.calls import CallRecord
from db.events import EventRecord
from db.legs import LegRecord
from db.model_requests import ModelUse
from db.pool import Executor
from db.routes import RouteRecord
from db.rows import columns
from db.utterances import UtteranceRecord

RecordT = TypeVar("RecordT")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentProviders:
    """The providers that the template of an agent names; None: the default."""

    template_id: UUID
    stt: str | None = None
    tts: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallUse:
    """The records of one call that its costs depend on."""

    call: CallRecord
    agents: Sequence[AgentProviders] = ()
    """Of the revisions that the call used."""
    routes: Sequence[RouteRecord] = ()
    switches: Sequence[EventRecord] = ()
    """The events ``provider.switched``."""
    utterances: Sequence[UtteranceRecord] = ()
    """The transcript in order."""
    legs: Sequence[LegRecord] = ()
    """The telephone calls to operators: while one is connected, no agent listens."""
    models: Sequence[ModelUse] = ()


_USES = f"""
    SELECT call.id, ARRAY(
            SELECT ROW(kept.template_id, kept.content #>> '{{stt,provider}}',
                kept.content #>> '{{tts,provider}}')
            FROM jsonb_each_text(call.revisions) used JOIN template_revisions kept
                ON kept.account_id = call.account_id AND kept.template_id = used.key::uuid
                AND kept.revision = used.value::integer
        ) AS agents, ARRAY(
            SELECT ROW({columns(RouteRecord)}) FROM routes
            WHERE account_id = call.account_id AND call_id = call.id ORDER BY seq
        ) AS routes, ARRAY(
            SELECT ROW({columns(EventRecord)}) FROM events
            WHERE account_id = call.account_id AND call_id = call.id AND type = 'provider.switched'
            ORDER BY seq
        ) AS switches, ARRAY(
            SELECT ROW({columns(UtteranceRecord)}) FROM utterances
            WHERE account_id = call.account_id AND call_id = call.id ORDER BY seq
        ) AS utterances, ARRAY(
            SELECT ROW({columns(LegRecord)}) FROM handoff_legs
            WHERE account_id = call.account_id AND call_id = call.id ORDER BY id
        ) AS legs, ARRAY(
            SELECT ROW(coalesce(settings ->> 'provider', ''), coalesce(settings ->> 'model', ''),
                sum((tokens ->> 'prompt')::bigint)::bigint, sum((tokens ->> 'cached')::bigint)::bigint,
                sum((tokens ->> 'completion')::bigint)::bigint,
                CASE WHEN bool_and(cost_usd IS NOT NULL) THEN sum(cost_usd) END)
            FROM model_requests
            WHERE account_id = call.account_id AND call_id = call.id AND tokens IS NOT NULL
            GROUP BY coalesce(settings ->> 'provider', ''), coalesce(settings ->> 'model', '')
            ORDER BY coalesce(settings ->> 'provider', ''), coalesce(settings ->> 'model', '')
        ) AS models
    FROM calls call WHERE call.id = ANY($1::uuid[])
"""  # noqa: S608 - only column names


async def of_calls(db: Executor, calls: Sequence[CallRecord]) -> Sequence[CallUse]:
    """What each of the calls has used, in their order."""
    rows = await db.fetch(_USES, [call.id for call in calls])
    found: Mapping[UUID, Mapping[str, Any]] = {row["id"]: row for row in rows}
    return [_use(call, found[call.id]) for call in calls]


def _use(call: CallRecord, row: Mapping[str, Any]) -> CallUse:
    return CallUse(
        call=call,
        agents=_records(AgentProviders, row["agents"]),
        routes=_records(RouteRecord, row["routes"]),
        switches=_records(EventRecord, row["switches"]),
        utterances=_records(UtteranceRecord, row["utterances"]),
        legs=_records(LegRecord, row["legs"]),
        models=_records(ModelUse, row["models"]),
    )


def _records(record: type[RecordT], rows: Iterable[Iterable[Any]]) -> list[RecordT]:
    """The records of rows whose values are in the order of the fields."""
    names = [field.name for field in fields(record)]  # type: ignore[arg-type]
    return [record(**dict(zip(names, row, strict=True))) for row in rows]
