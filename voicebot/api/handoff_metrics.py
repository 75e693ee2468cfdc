"""/metrics/handoffs: waiting times, service level and counts of handoffs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from db import handoff_metrics
from db.handoff_metrics import Durations, Window
from voicebot.api.access import Reader
from voicebot.api.app_state import AppStateDep
from voicebot.api.documentation import refuses
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.api.resource_router import resource_router
from voicebot.api.validation import Moment

router = resource_router("/metrics", "metrics")

DEFAULT_WINDOW = timedelta(days=7)


class MetricsQuery(BaseModel):
    """Which handoffs to include."""

    model_config = ConfigDict(extra="forbid")

    since: Annotated[
        Moment | None, Field(description="Created from then on; by default a week before `until`.")
    ] = None
    until: Annotated[Moment | None, Field(description="Created before then; by default now.")] = None
    in_time_ms: Annotated[
        int,
        Field(
            ge=0, le=86_400_000, description="Target time from the creation of an escalation to its claim."
        ),
    ] = 60_000


class DurationsAnswer(BaseModel):
    """Durations; percentiles are nearest-rank."""

    count: int
    p50_ms: int | None
    p90_ms: int | None
    p99_ms: int | None


class ServiceLevel(BaseModel):
    """Share of escalations that were claimed within the target time."""

    in_time_ms: int
    in_time: int
    late: int
    share: float | None


class HandoffMetricsAnswer(BaseModel):
    """Metrics of the account's handoffs."""

    since: datetime
    until: datetime
    created: int
    states: dict[str, int]
    time_to_offer: DurationsAnswer
    time_to_claim: DurationsAnswer
    time_to_bridge: DurationsAnswer
    service_level: ServiceLevel
    failures: Annotated[
        dict[str, int], Field(description="Failed, abandoned, expired and unanswered handoffs by cause.")
    ]
    open: Annotated[int, Field(description="Independent of the window, like the next two.")]
    abandoned: int
    oldest_open_ms: int | None
    notices: dict[str, int]
    delivery: DurationsAnswer
    stream_last_seq: int
    stream_followers: Annotated[
        int, Field(description="Subscribers of all accounts in the process that answers.")
    ]
    journal_waiting: int
    journal_lag_ms: int


@router.get("/handoffs", responses=refuses("invalid_request"))
async def get_handoff_metrics(
    state: AppStateDep, reader: Reader, query: Annotated[MetricsQuery, Query()]
) -> HandoffMetricsAnswer:
    """Compute the metrics of the account's handoffs."""
    now = state.clock.now()
    window = Window(since=query.since or _week_before(query.until or now), until=query.until or now)
    found = await handoff_metrics.of_account(
        state.database, reader.account_id, window, in_time_ms=query.in_time_ms, now=now
    )
    decided = found.in_time + found.late
    return HandoffMetricsAnswer(
        since=window.since,
        until=window.until,
        created=found.created,
        states=dict(found.states),
        time_to_offer=_durations(found.to_offer),
        time_to_claim=_durations(found.to_claim),
        time_to_bridge=_durations(found.to_bridge),
        service_level=ServiceLevel(
            in_time_ms=query.in_time_ms,
            in_time=found.in_time,
            late=found.late,
            share=found.in_time / decided if decided else None,
        ),
        failures=dict(found.failures),
        open=found.open,
        abandoned=found.abandoned,
        oldest_open_ms=_age_ms(found.oldest_open_at, now),
        notices=dict(found.notices),
        delivery=_durations(found.delivery),
        stream_last_seq=found.last_seq,
        stream_followers=state.handoffs.broker.followers,
        journal_waiting=found.unjournaled,
        journal_lag_ms=_age_ms(found.oldest_unjournaled_at, now) or 0,
    )


def _durations(found: Durations) -> DurationsAnswer:
    return DurationsAnswer(count=found.count, p50_ms=found.p50, p90_ms=found.p90, p99_ms=found.p99)


def _week_before(moment: datetime) -> datetime:
    try:
        return moment - DEFAULT_WINDOW
    except OverflowError:
        fault = FieldError(
            pointer="/until",
            code="out_of_reach",
            message="There is no time before it.",
            remedy="Choose a later time.",
        )
        raise ApiProblem("invalid_request", fault.message, errors=[fault]) from None


def _age_ms(since: datetime | None, now: datetime) -> int | None:
    return None if since is None else max(0, round((now - since) / timedelta(milliseconds=1)))
