"""/keys: the account's API keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict, Field

from db import audit, keys, users
from db.audit import Change
from db.errors import NotFound
from db.keys import KeyRecord, Role
from db.pool import Executor
from db.users import UserRecord
from voicebot.api.access import Admin, Principal
from voicebot.api.answers import AnswerOf, extended
from voicebot.api.app_state import AppStateDep
from voicebot.api.documentation import BODY, refuses
from voicebot.api.membership import changing_members, require_owner
from voicebot.api.pagination import PageOf, PageQuery
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.api.resource_router import resource_router

router = resource_router("/keys", "keys")

_REMEDIES = {
    "role": "Choose a role that the user's role includes, or change the user's role first.",
    "user_id": "Choose an active user, or create a key without a user.",
}


class KeyBody(BaseModel):
    """A key to create."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"role": "author", "label": "Ada's laptop"}]}
    )

    role: Annotated[Role, Field(description="What the key allows. Only an owner can create an owner's key.")]
    label: Annotated[str, Field(max_length=100, description="For display.")] = ""
    user_id: Annotated[
        UUID | None,
        Field(
            description="The user whom the key acts for; it never allows more than the user's present role."
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWithSecret(KeyRecord):
    """A key that was just created."""

    key: str
    """The key itself, shown this once."""


Key = Annotated[KeyRecord, AnswerOf("Key")]
NewKey = Annotated[KeyWithSecret, AnswerOf("NewKey")]


class KeyQuery(PageQuery):
    """Paging only."""


@router.get("", responses=refuses("invalid_request"))
async def list_keys(app_state: AppStateDep, admin: Admin, query: Annotated[KeyQuery, Query()]) -> PageOf[Key]:
    """The account's keys, revoked ones included, newest first."""
    found = await keys.list_keys(app_state.database, admin.account_id, limit=query.limit, cursor=query.cursor)
    return PageOf[Key].of(found)


@router.post("", status_code=201, responses=refuses(*BODY, "invalid_request"))
async def create_key(app_state: AppStateDep, admin: Admin, body: KeyBody, response: Response) -> NewKey:
    """Create a key. Only this answer contains it."""
    async with changing_members(app_state, admin) as (transaction, present):
        user = await _user_of(transaction, admin, body)
        _require_owner(present, body.role, user)
        made = await keys.create(
            transaction, admin.account_id, body.role, label=body.label, user_id=body.user_id
        )
        await audit.record(transaction, admin.account_id, _change(admin, "create", made.record))
    response.headers["Location"] = f"/api/v1/keys/{made.record.id}"
    return extended(KeyWithSecret, made.record, key=made.key)


@router.get("/{key_id:uuid}", responses=refuses("not_found"))
async def get_key(app_state: AppStateDep, admin: Admin, key_id: UUID) -> Key:
    """One key, revoked or not."""
    return await keys.get(app_state.database, admin.account_id, key_id)


@router.delete("/{key_id:uuid}", status_code=204, responses=refuses("not_found", "last_owner"))
async def revoke_key(app_state: AppStateDep, admin: Admin, key_id: UUID) -> None:
    """Revoke a key: the next request with it is refused. Only an owner can revoke an owner's key.

    A key cannot revoke itself, so that the replacement of a key is known to work.
    """
    if key_id == admin.key_id:
        raise ApiProblem("forbidden", "A key cannot revoke itself: use the key that replaces it.")
    async with changing_members(app_state, admin) as (transaction, present):
        before = await keys.get(transaction, admin.account_id, key_id)
        user = await _find_user(transaction, admin, before.user_id)
        _require_owner(present, before.role, user)
        revoked = await keys.revoke(transaction, admin.account_id, key_id)
        if revoked.first:
            await audit.record(transaction, admin.account_id, _change(admin, "revoke", revoked.record))
    await app_state.open_streams.check()


async def _user_of(db: Executor, admin: Principal, body: KeyBody) -> UserRecord | None:
    """The user whom a new key is to act for; 422 where they could not use it."""
    try:
        user = await _find_user(db, admin, body.user_id)
    except NotFound:
        raise _refused("user_id", "user_missing", "The account has no such user.") from None
    if user is None:
        return None
    if not user.active:
        raise _refused("user_id", "user_inactive", "The user is deactivated, so the key would allow nothing.")
    if keys.least(body.role, user.role) != body.role:
        message = f"A key of the role {body.role} would allow more than the user's role, {user.role}."
        raise _refused("role", "role_above_user", message)
    return user


async def _find_user(db: Executor, admin: Principal, user_id: UUID | None) -> UserRecord | None:
    return None if user_id is None else await users.get(db, admin.account_id, user_id)


def _require_owner(admin: Principal, role: Role, user: UserRecord | None) -> None:
    """403 where a key of an owner, or one that acts for an owner, is managed by someone else."""
    if role == "owner" or (user is not None and user.role == "owner"):
        require_owner(admin, "Only an owner can create or revoke the keys of owners.")


def _refused(field: str, code: str, message: str) -> ApiProblem:
    fault = FieldError(pointer=f"/{field}", code=code, message=message, remedy=_REMEDIES[field])
    return ApiProblem("invalid_request", message, errors=[fault])


def _change(admin: Principal, action: str, key: KeyRecord) -> Change:
    data = {"role": key.role, "prefix": key.prefix, "user_id": str(key.user_id) if key.user_id else None}
    return Change(key_id=admin.key_id, action=action, resource="key", resource_id=key.id, data=data)
