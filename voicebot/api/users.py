"""/users: the users of the account."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict, Field, Strict

from db import audit, keys, users
from db.audit import Change
from db.keys import Role
from db.pool import Executor
from db.users import UserDraft, UserRecord
from voicebot.api.access import Admin, Principal, Reader
from voicebot.api.answers import AnswerOf
from voicebot.api.app_state import AppStateDep
from voicebot.api.documentation import BODY, refuses
from voicebot.api.membership import changing_members, require_owner
from voicebot.api.numbers import E164
from voicebot.api.pagination import PageOf, PageQuery
from voicebot.api.problems import ApiProblem
from voicebot.api.resource_router import resource_router
from voicebot.handoffs.presence import PresenceChange

router = resource_router("/users", "users")


class UserBody(BaseModel):
    """The fields of a user that a client sets."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200, examples=["Ada Lovelace"])]
    email: Annotated[
        str | None,
        Field(
            max_length=254,
            pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$",
            description="Where to send a notice of each escalation.",
            examples=["ada@example.com"],
        ),
    ] = None
    phone: Annotated[
        E164 | None, Field(description="Where the user is called when they claim a handoff.")
    ] = None
    role: Role = "operator"
    active: Annotated[bool, Strict(), Field(description="False invalidates all of the user's API keys.")] = (
        True
    )


User = Annotated[UserRecord, AnswerOf("User", omit=("account_id", "deleted_at"))]


class UserQuery(PageQuery):
    """Which page of users to list."""


@router.get("", responses=refuses("invalid_request"))
async def list_users(
    state: AppStateDep, reader: Reader, query: Annotated[UserQuery, Query()]
) -> PageOf[User]:
    """List the account's users, newest first."""
    found = await users.list_users(state.database, reader.account_id, limit=query.limit, cursor=query.cursor)
    return PageOf[User].of(found)


@router.post("", status_code=201, responses=refuses(*BODY, "invalid_request", "email_taken"))
async def create_user(state: AppStateDep, admin: Admin, body: UserBody, response: Response) -> User:
    """Add a user. Only an owner can add an owner."""
    async with changing_members(state, admin) as (transaction, present):
        _check_may_manage(present, body.role)
        made = await users.create(transaction, admin.account_id, _draft(body))
        await _audit(transaction, admin, "create", made)
    response.headers["Location"] = f"/api/v1/users/{made.id}"
    return made


@router.get("/{user_id:uuid}", responses=refuses("not_found"))
async def get_user(state: AppStateDep, reader: Reader, user_id: UUID) -> User:
    """Get one user."""
    return await _get(state.database, reader, user_id)


@router.put(
    "/{user_id:uuid}", responses=refuses(*BODY, "invalid_request", "email_taken", "not_found", "last_owner")
)
async def put_user(state: AppStateDep, admin: Admin, user_id: UUID, body: UserBody) -> User:
    """Replace a user. Deactivating a user returns their claims to the queue.

    You cannot change your own role or deactivate yourself.
    """
    async with changing_members(state, admin) as (transaction, present):
        before = await _get(transaction, admin, user_id)
        _check_may_manage(present, before.role)
        _check_may_manage(present, body.role)
        if (body.role, body.active) != (before.role, before.active):
            await _check_not_self(transaction, admin, user_id)
        written = await users.update(transaction, admin.account_id, user_id, _draft(body))
        await _audit(transaction, admin, "update", written)
    if not written.active:
        await state.open_streams.check()
        await state.handoffs.presence.set(admin.account_id, user_id, PresenceChange(status="offline"))
    return written


@router.delete("/{user_id:uuid}", status_code=204, responses=refuses("not_found", "last_owner"))
async def delete_user(state: AppStateDep, admin: Admin, user_id: UUID) -> None:
    """Delete a user; records of what they did keep their name. You cannot delete yourself."""
    async with changing_members(state, admin) as (transaction, present):
        _check_may_manage(present, (await _get(transaction, admin, user_id)).role)
        await _check_not_self(transaction, admin, user_id)
        deleted = await users.delete(transaction, admin.account_id, user_id)
        await _audit(transaction, admin, "delete", deleted)
    await state.handoffs.presence.set(admin.account_id, user_id, PresenceChange(status="offline"))


async def _get(db: Executor, who: Principal, user_id: UUID) -> UserRecord:
    found = await users.get(db, who.account_id, user_id)
    if found.deleted_at is not None:
        raise ApiProblem("not_found", f"The user {user_id} was deleted.")
    return found


def _check_may_manage(admin: Principal, role: Role) -> None:
    if role == "owner":
        require_owner(admin, "Only an owner can add, change or delete owners.")


async def _check_not_self(db: Executor, admin: Principal, user_id: UUID) -> None:
    key = await keys.get(db, admin.account_id, admin.key_id)
    if key.user_id == user_id:
        raise ApiProblem(
            "forbidden", "You cannot deactivate, demote or delete yourself. Ask another admin or owner."
        )


def _draft(body: UserBody) -> UserDraft:
    return UserDraft(name=body.name, email=body.email, phone=body.phone, role=body.role, active=body.active)


async def _audit(db: Executor, who: Principal, action: str, user: UserRecord) -> None:
    data = {"role": user.role, "active": user.active}
    change = Change(key_id=who.key_id, action=action, resource="user", resource_id=user.id, data=data)
    await audit.record(db, who.account_id, change)
