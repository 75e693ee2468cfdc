"""/users: the people of the account."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, Strict

from db import audit, keys, users
from db.audit import Change
from db.keys import Role
from db.pool import Executor
from db.users import UserDraft, UserRecord
from voicebot.api.access import Admin, Principal, Reader
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.documentation import BODY, refuses
from voicebot.api.pagination import PageOf, PageQuery
from voicebot.api.problems import ApiProblem
from voicebot.handoffs.presence import Setting

router = APIRouter(prefix="/users", tags=["users"])


class UserBody(BaseModel):
    """A person."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200, examples=["Ada Lovelace"])]
    email: Annotated[
        str | None,
        Field(
            max_length=254,
            pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$",
            description="Where to write when a caller needs a person.",
            examples=["ada@example.com"],
        ),
    ] = None
    role: Role = "operator"
    active: Annotated[bool, Strict(), Field(description="False closes the way in for all of their keys.")] = (
        True
    )


class User(BaseModel):
    """A person of the account."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    email: str | None
    role: Role
    active: bool
    created_at: datetime


class UserQuery(PageQuery):
    """Nothing but pages."""


@router.get("", responses=refuses("invalid_request"))
async def list_users(
    wired: AppStateDep, reader: Reader, query: Annotated[UserQuery, Query()]
) -> PageOf[User]:
    """The account's people, newest first."""
    found = await users.list_users(wired.database, reader.account_id, limit=query.limit, cursor=query.cursor)
    return PageOf[User](
        items=[User.model_validate(each) for each in found.items], next_cursor=found.next_cursor
    )


@router.post("", status_code=201, responses=refuses(*BODY, "invalid_request", "email_taken"))
async def create_user(wired: AppStateDep, admin: Admin, body: UserBody, response: Response) -> User:
    """Add a person. Only an owner makes owners."""
    _may_make(admin, body.role)
    async with wired.database.transaction() as transaction:
        made = await users.create(transaction, admin.account_id, _draft(body))
        await _audit(transaction, admin, "create", made)
    response.headers["Location"] = f"/api/v1/users/{made.id}"
    return User.model_validate(made)


@router.get("/{user_id:uuid}", responses=refuses("not_found"))
async def get_user(wired: AppStateDep, reader: Reader, user_id: UUID) -> User:
    """One person."""
    return User.model_validate(await _present(wired, reader, user_id))


@router.put("/{user_id:uuid}", responses=refuses(*BODY, "invalid_request", "email_taken", "not_found"))
async def put_user(wired: AppStateDep, admin: Admin, user_id: UUID, body: UserBody) -> User:
    """Write a person down anew. Deactivating returns what they hold to the queue.

    Nobody changes their own role or deactivates themselves: it might be the last way in.
    """
    before = await _present(wired, admin, user_id)
    _may_make(admin, before.role)
    _may_make(admin, body.role)
    if (body.role, body.active) != (before.role, before.active):
        await _must_be_another(wired, admin, user_id)
    async with wired.database.transaction() as transaction:
        written = await users.update(transaction, admin.account_id, user_id, _draft(body))
        await _audit(transaction, admin, "update", written)
    if not written.active:
        await wired.office.presence.set(admin.account_id, user_id, Setting(status="offline"))
    return User.model_validate(written)


@router.delete("/{user_id:uuid}", status_code=204, responses=refuses("not_found"))
async def delete_user(wired: AppStateDep, admin: Admin, user_id: UUID) -> None:
    """Take a person off the list; what they did keeps their name. Nobody deletes themselves."""
    _may_make(admin, (await _present(wired, admin, user_id)).role)
    await _must_be_another(wired, admin, user_id)
    async with wired.database.transaction() as transaction:
        gone = await users.delete(transaction, admin.account_id, user_id)
        await _audit(transaction, admin, "delete", gone)
    await wired.office.presence.set(admin.account_id, user_id, Setting(status="offline"))


async def _present(wired: AppState, who: Principal, user_id: UUID) -> UserRecord:
    found = await users.get(wired.database, who.account_id, user_id)
    if found.deleted_at is not None:
        raise ApiProblem("not_found", f"The user {user_id} was deleted.")
    return found


def _may_make(admin: Principal, role: Role) -> None:
    if role == "owner" and admin.role != "owner":
        raise ApiProblem("forbidden", "Only an owner makes, changes or removes owners.")


async def _must_be_another(wired: AppState, admin: Principal, user_id: UUID) -> None:
    key = await keys.get(wired.database, admin.account_id, admin.key_id)
    if key.user_id == user_id:
        raise ApiProblem("forbidden", "Nobody closes their own way in: have another admin or owner do it.")


def _draft(body: UserBody) -> UserDraft:
    return UserDraft(name=body.name, email=body.email, role=body.role, active=body.active)


async def _audit(db: Executor, who: Principal, action: str, user: UserRecord) -> None:
    data = {"role": user.role, "active": user.active}
    change = Change(key_id=who.key_id, action=action, resource="user", resource_id=user.id, data=data)
    await audit.record(db, who.account_id, change)
