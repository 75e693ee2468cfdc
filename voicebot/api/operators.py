"""/operators: the users who claim handoffs, and their presence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Body, Query
from pydantic import BaseModel, ConfigDict, Field, Strict

from db import audit, operators, users
from db.audit import Change
from db.operators import OperatorRecord
from voicebot import availability
from voicebot.api.access import Admin, Operator, Principal, Reader
from voicebot.api.answers import AnswerOf, extended
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.documentation import BODY, refuses
from voicebot.api.handoff_models import Language, Team
from voicebot.api.media_types import MERGE_PATCH
from voicebot.api.numbers import E164
from voicebot.api.pagination import PageOf, PageQuery
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.api.resource_router import resource_router
from voicebot.api.validation import Moment
from voicebot.availability import State
from voicebot.handoffs.presence import OperatorPresence, PresenceChange

router = resource_router("/operators", "operators")

MAX_DISTANCE = timedelta(days=366)


class PresenceBody(BaseModel):
    """A change of presence; members that are left out are not changed."""

    model_config = ConfigDict(extra="forbid")

    status: Annotated[
        Literal["idle", "away", "on_call", "wrapping_up", "offline", "exhausted"] | None,
        Field(
            description="`on_call` is a shift. `busy` follows from claims and cannot be set.",
            examples=["idle"],
        ),
    ] = None
    until: Annotated[
        Moment | None,
        Field(description="When the status ends; an exhaustion without an end lasts five hours."),
    ] = None
    billing: Annotated[bool, Strict(), Field(description="Of `exhausted`: until an admin ends it.")] = False
    capacity: Annotated[
        int | None, Strict(), Field(ge=0, le=100, description="Maximum number of claims at once.")
    ] = None
    languages: Annotated[
        list[Language] | None,
        Field(max_length=50, description="`en` includes `en-US`; an empty list: offered any language."),
    ] = None
    teams: Annotated[
        list[Team] | None, Field(max_length=50, description="An empty list: offered any team.")
    ] = None


class OperatorPatch(BaseModel):
    """A merge patch (RFC 7396) of your own entry: null removes, lists are replaced as a whole."""

    model_config = ConfigDict(extra="forbid")

    phone: Annotated[
        E164 | None, Field(description="Where you are called when you claim a handoff; null: nowhere.")
    ] = None
    languages: Annotated[list[Language] | None, Field(max_length=50, description="As in your presence.")] = (
        None
    )
    teams: Annotated[list[Team] | None, Field(max_length=50, description="As in your presence.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorWithState(OperatorRecord):
    """An operator and their presence."""

    state: State
    """The state that follows from the other fields at this moment."""
    phone: str | None
    """E.164; where the operator is called when they claim a handoff."""


OperatorAnswer = Annotated[
    OperatorWithState,
    AnswerOf("Operator", omit=("account_id", "last_offered_at", "signed_on", "revision")),
]


class OperatorQuery(PageQuery):
    """Which page of operators to list."""


@router.get("", responses=refuses("invalid_request"))
async def list_operators(
    state: AppStateDep, reader: Reader, query: Annotated[OperatorQuery, Query()]
) -> PageOf[OperatorAnswer]:
    """List the account's operators, newest user first."""
    found = await operators.list_operators(
        state.database, reader.account_id, limit=query.limit, cursor=query.cursor
    )
    now = state.clock.now()
    phones = await users.phones(state.database, reader.account_id, [each.user_id for each in found.items])
    return PageOf[OperatorAnswer](
        items=[
            extended(
                OperatorWithState, each, state=availability.state(each, now), phone=phones.get(each.user_id)
            )
            for each in found.items
        ],
        next_cursor=found.next_cursor,
    )


@router.get("/me", responses=refuses())
async def get_own_presence(state: AppStateDep, operator: Operator) -> OperatorAnswer:
    """Get your own presence. This is not a sign of life."""
    return await _answer(
        state, await state.handoffs.presence.get(operator.account_id, await _me(state, operator))
    )


@router.patch("/me", responses=refuses(*BODY, "invalid_request"))
async def patch_operator(
    state: AppStateDep, operator: Operator, body: Annotated[OperatorPatch, Body(media_type=MERGE_PATCH)]
) -> OperatorAnswer:
    """Change your telephone number, languages or teams."""
    me = await _me(state, operator)
    if "phone" in body.model_fields_set:
        async with state.database.transaction() as transaction:
            await users.set_phone(transaction, operator.account_id, me, body.phone)
            change = Change(key_id=operator.key_id, action="update", resource="operator", resource_id=me)
            await audit.record(transaction, operator.account_id, change)
    wanted = PresenceChange(
        languages=tuple(body.languages or ()) if "languages" in body.model_fields_set else None,
        teams=tuple(body.teams or ()) if "teams" in body.model_fields_set else None,
    )
    if wanted == PresenceChange():
        return await _answer(state, await state.handoffs.presence.get(operator.account_id, me))
    return await _answer(state, await state.handoffs.presence.set(operator.account_id, me, wanted))


@router.put("/me/presence", responses=refuses(*BODY, "invalid_request", "illegal_move"))
async def put_presence(state: AppStateDep, operator: Operator, body: PresenceBody) -> OperatorAnswer:
    """Set your own presence. Going offline returns your claims to the queue."""
    if body.until is not None and not body.until < state.clock.now() + MAX_DISTANCE:
        fault = FieldError(
            pointer="/until",
            code="out_of_reach",
            message="The time is more than a year away.",
            remedy="Choose a time within a year.",
        )
        raise ApiProblem("invalid_request", fault.message, errors=[fault])
    wanted = PresenceChange(
        status=body.status,
        until=body.until,
        billing=body.billing,
        capacity=body.capacity,
        languages=None if body.languages is None else tuple(body.languages),
        teams=None if body.teams is None else tuple(body.teams),
    )
    me = await _me(state, operator)
    return await _answer(state, await state.handoffs.presence.set(operator.account_id, me, wanted))


@router.post("/me/heartbeat", responses=refuses())
async def heartbeat(state: AppStateDep, operator: Operator) -> OperatorAnswer:
    """Send a sign of life, at least every two minutes; it renews the leases of your claims."""
    return await _answer(
        state, await state.handoffs.presence.heartbeat(operator.account_id, await _me(state, operator))
    )


@router.post("/{user_id:uuid}/relieve", responses=refuses("not_found"))
async def end_exhaustion(state: AppStateDep, admin: Admin, user_id: UUID) -> OperatorAnswer:
    """End an operator's exhaustion; nothing else ends one for billing."""
    wanted = PresenceChange(status="relieved")
    relieved = await state.handoffs.presence.set(admin.account_id, user_id, wanted)
    change = Change(key_id=admin.key_id, action="relieve", resource="operator", resource_id=user_id)
    await audit.record(state.database, admin.account_id, change)
    return await _answer(state, relieved)


async def _me(state: AppState, who: Principal) -> UUID:
    return (await users.of_key(state.database, who.account_id, who.key_id)).id


async def _answer(state: AppState, presence: OperatorPresence) -> OperatorWithState:
    operator = presence.operator
    phones = await users.phones(state.database, operator.account_id, [operator.user_id])
    return extended(OperatorWithState, operator, state=presence.state, phone=phones.get(operator.user_id))
