"""/metrics/handoffs: how well callers who need a person are served."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from db import handoff_metrics
from db.handoff_metrics import Times, Window
from voicebot.api.access import Reader
from voicebot.api.app_state import AppStateDep
from voicebot.api.documentation import refuses
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.api.validation import Moment

router = APIRouter(prefix="/metrics", tags=["metrics"])

USUAL = timedelta(days=7)


class FiguresQuery(BaseModel):
    """Which handoffs to look at."""

    model_config = ConfigDict(extra="forbid")

    since: Annotated[Moment | None, Field(description="Made from then on; by default a week ago.")] = None
    until: Annotated[Moment | None, Field(description="Made before then; by default now.")] = None
    in_time_ms: Annotated[
        int, Field(ge=0, le=86_400_000, description="How soon an escalation is to be claimed.")
    ] = 60_000


class TimesShown(BaseModel):
    """How long something took; percentiles are values that occurred (nearest rank)."""

    count: int
    p50_ms: int | None
    p90_ms: int | None
    p99_ms: int | None


class ServiceLevel(BaseModel):
    """Escalations claimed in time, of those of which it is known."""

    in_time_ms: int
    in_time: int
    late: int
    share: float | None


class HandoffFigures(BaseModel):
    """The desk in figures."""

    since: datetime
    until: datetime
    created: int
    states: dict[str, int]
    time_to_offer: TimesShown
    time_to_claim: TimesShown
    time_to_bridge: TimesShown
    service_level: ServiceLevel
    failures: Annotated[
        dict[str, int], Field(description="Failed, abandoned, expired or unanswered, by cause.")
    ]
    open: Annotated[int, Field(description="Of all times, as are the next two.")]
    abandoned: int
    oldest_open_ms: int | None
    notices: dict[str, int]
    delivery: TimesShown
    stream_last_seq: int
    stream_followers: Annotated[int, Field(description="Of all accounts, in the process that answers.")]
    journal_waiting: int
    journal_lag_ms: int


@router.get("/handoffs", responses=refuses("invalid_request"))
async def handoff_figures(
    wired: AppStateDep, reader: Reader, query: Annotated[FiguresQuery, Query()]
) -> HandoffFigures:
    """The account's desk in figures, computed from the rows now."""
    now = wired.clock.now()
    window = Window(since=query.since or _week_before(query.until or now), until=query.until or now)
    found = await handoff_metrics.of_account(
        wired.database, reader.account_id, window, in_time_ms=query.in_time_ms, now=now
    )
    known = found.in_time + found.late
    return HandoffFigures(
        since=window.since,
        until=window.until,
        created=found.created,
        states=dict(found.states),
        time_to_offer=_times(found.to_offer),
        time_to_claim=_times(found.to_claim),
        time_to_bridge=_times(found.to_bridge),
        service_level=ServiceLevel(
            in_time_ms=query.in_time_ms,
            in_time=found.in_time,
            late=found.late,
            share=found.in_time / known if known else None,
        ),
        failures=dict(found.failures),
        open=found.open,
        abandoned=found.abandoned,
        oldest_open_ms=_age_ms(found.oldest_open_at, now),
        notices=dict(found.notices),
        delivery=_times(found.delivery),
        stream_last_seq=found.last_seq,
        stream_followers=wired.office.broker.followers,
        journal_waiting=found.unjournaled,
        journal_lag_ms=_age_ms(found.oldest_unjournaled_at, now) or 0,
    )


def _times(found: Times) -> TimesShown:
    return TimesShown(count=found.count, p50_ms=found.p50, p90_ms=found.p90, p99_ms=found.p99)


def _week_before(moment: datetime) -> datetime:
    try:
        return moment - USUAL
    except OverflowError:
        fault = FieldError(
            pointer="/until",
            code="out_of_reach",
            message="Nothing was before it.",
            remedy="Choose a later time.",
        )
        raise ApiProblem("invalid_request", fault.message, errors=[fault]) from None


def _age_ms(since: datetime | None, now: datetime) -> int | None:
    return None if since is None else max(0, round((now - since) / timedelta(milliseconds=1)))
