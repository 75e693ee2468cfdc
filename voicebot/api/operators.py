"""/operators: who is at the desk."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, Strict

from db import audit, operators, users
from db.audit import Change
from db.operators import Activity, OperatorRecord, Quota
from voicebot import availability
from voicebot.api.access import Admin, Operator, Principal, Reader
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.documentation import BODY, refuses
from voicebot.api.handoff_models import Language, Team
from voicebot.api.pagination import PageOf, PageQuery
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.api.validation import Moment
from voicebot.availability import State
from voicebot.handoffs.presence import PresenceView, Setting
from voicebot.handoffs.presence_mapping import presence_of

router = APIRouter(prefix="/operators", tags=["operators"])

LATEST = timedelta(days=366)


class PresenceBody(BaseModel):
    """What to be; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    status: Annotated[
        Literal["idle", "away", "on_call", "wrapping_up", "offline", "exhausted"] | None,
        Field(description="`on_call` is a shift. `busy` comes from claims.", examples=["idle"]),
    ] = None
    until: Annotated[
        Moment | None,
        Field(description="When it ends by itself; an exhaustion without a known end lasts five hours."),
    ] = None
    billing: Annotated[
        bool, Strict(), Field(description="Of `exhausted`: until an admin says otherwise.")
    ] = False
    capacity: Annotated[int | None, Strict(), Field(ge=0, le=100, description="The most claims at once.")] = (
        None
    )
    languages: Annotated[
        list[Language] | None, Field(max_length=50, description="`en` is any English; none: asked for all.")
    ] = None
    teams: Annotated[list[Team] | None, Field(max_length=50, description="None: asked for all.")] = None


class OperatorShown(BaseModel):
    """A person at the desk."""

    user_id: UUID
    state: Annotated[State, Field(description="What the facts add up to now.")]
    last_seen_at: datetime | None
    activity: Activity
    activity_until: datetime | None
    quota: Quota
    quota_until: datetime | None
    capacity: int
    holding: int
    bridged: int
    languages: list[str]
    teams: list[str]


class OperatorQuery(PageQuery):
    """Nothing but pages."""


@router.get("", responses=refuses("invalid_request"))
async def list_operators(
    wired: AppStateDep, reader: Reader, query: Annotated[OperatorQuery, Query()]
) -> PageOf[OperatorShown]:
    """Everybody who has been at the desk, the newest user first."""
    found = await operators.list_operators(
        wired.database, reader.account_id, limit=query.limit, cursor=query.cursor
    )
    now = wired.clock.now()
    return PageOf[OperatorShown](
        items=[_shown(each, availability.state(presence_of(each), now)) for each in found.items],
        next_cursor=found.next_cursor,
    )


@router.get("/me", responses=refuses())
async def get_me(wired: AppStateDep, operator: Operator) -> OperatorShown:
    """Oneself. Looking is no sign of life."""
    return _seen(await wired.office.presence.look(operator.account_id, await _me(wired, operator)))


@router.put("/me/presence", responses=refuses(*BODY, "invalid_request", "illegal_move"))
async def put_presence(wired: AppStateDep, operator: Operator, body: PresenceBody) -> OperatorShown:
    """Say what one is. Going offline returns what one holds to the queue."""
    if body.until is not None and not body.until < wired.clock.now() + LATEST:
        fault = FieldError(
            pointer="/until",
            code="out_of_reach",
            message="More than a year away.",
            remedy="Choose a nearer time.",
        )
        raise ApiProblem("invalid_request", fault.message, errors=[fault])
    setting = Setting(
        status=body.status,
        until=body.until,
        billing=body.billing,
        capacity=body.capacity,
        languages=None if body.languages is None else tuple(body.languages),
        teams=None if body.teams is None else tuple(body.teams),
    )
    me = await _me(wired, operator)
    return _seen(await wired.office.presence.set(operator.account_id, me, setting))


@router.post("/me/heartbeat", responses=refuses())
async def heartbeat(wired: AppStateDep, operator: Operator) -> OperatorShown:
    """A sign of life, wanted at least every two minutes; it renews the leases of one's claims."""
    return _seen(await wired.office.presence.heartbeat(operator.account_id, await _me(wired, operator)))


@router.post("/{user_id:uuid}/relieve", responses=refuses("not_found"))
async def relieve(wired: AppStateDep, admin: Admin, user_id: UUID) -> OperatorShown:
    """Say that somebody is not exhausted any more; one for billing ends in no other way."""
    setting = Setting(status="relieved")
    relieved = await wired.office.presence.set(admin.account_id, user_id, setting)
    change = Change(key_id=admin.key_id, action="relieve", resource="operator", resource_id=user_id)
    await audit.record(wired.database, admin.account_id, change)
    return _seen(relieved)


async def _me(wired: AppState, who: Principal) -> UUID:
    return (await users.of_key(wired.database, who.account_id, who.key_id)).id


def _seen(seen: PresenceView) -> OperatorShown:
    return _shown(seen.operator, seen.state)


def _shown(operator: OperatorRecord, state: State) -> OperatorShown:
    return OperatorShown(
        user_id=operator.user_id,
        state=state,
        last_seen_at=operator.last_seen_at,
        activity=operator.activity,
        activity_until=operator.activity_until,
        quota=operator.quota,
        quota_until=operator.quota_until,
        capacity=operator.capacity,
        holding=operator.holding,
        bridged=operator.bridged,
        languages=list(operator.languages),
        teams=list(operator.teams),
    )
