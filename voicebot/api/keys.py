"""/keys: what opens this API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
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
from voicebot.api.pagination import PageOf, PageQuery
from voicebot.api.problems import ApiProblem, FieldError

router = APIRouter(prefix="/keys", tags=["keys"])

_REMEDIES = {
    "role": "Choose a role that the user's includes, or give the user another one first.",
    "user_id": "Choose an active user, or make a key that speaks for nobody.",
}


class KeyBody(BaseModel):
    """A key to make."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"role": "author", "label": "Ada's laptop"}]}
    )

    role: Annotated[Role, Field(description="What it allows. Only an owner makes a key that allows all.")]
    label: Annotated[str, Field(max_length=100, description="For people.")] = ""
    user_id: Annotated[
        UUID | None,
        Field(description="Whom it speaks for: it never allows more than their role of the moment."),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWithSecret(KeyRecord):
    """A key that was just made."""

    key: str
    """The key itself, shown this once."""


Key = Annotated[KeyRecord, AnswerOf("Key")]
NewKey = Annotated[KeyWithSecret, AnswerOf("NewKey")]


class KeyQuery(PageQuery):
    """Nothing but pages."""


@router.get("", responses=refuses("invalid_request"))
async def list_keys(wired: AppStateDep, admin: Admin, query: Annotated[KeyQuery, Query()]) -> PageOf[Key]:
    """The account's keys, revoked ones included, newest first."""
    found = await keys.list_keys(wired.database, admin.account_id, limit=query.limit, cursor=query.cursor)
    return PageOf[Key].of(found)


@router.post("", status_code=201, responses=refuses(*BODY, "invalid_request"))
async def create_key(wired: AppStateDep, admin: Admin, body: KeyBody, response: Response) -> NewKey:
    """Make a key. It is shown in this answer and never again."""
    async with wired.database.transaction() as transaction:
        person = await _person(transaction, admin, body)
        _must_own(admin, body.role, person)
        made = await keys.create(
            transaction, admin.account_id, body.role, label=body.label, user_id=body.user_id
        )
        await audit.record(transaction, admin.account_id, _change(admin, "create", made.record))
    response.headers["Location"] = f"/api/v1/keys/{made.record.id}"
    return extended(KeyWithSecret, made.record, key=made.key)


@router.get("/{key_id:uuid}", responses=refuses("not_found"))
async def get_key(wired: AppStateDep, admin: Admin, key_id: UUID) -> Key:
    """One key, revoked or not."""
    return await keys.get(wired.database, admin.account_id, key_id)


@router.delete("/{key_id:uuid}", status_code=204, responses=refuses("not_found"))
async def revoke_key(wired: AppStateDep, admin: Admin, key_id: UUID) -> None:
    """Close a key for good: the next request with it is refused. Only an owner closes an owner's key.

    A key does not close itself: whoever replaces one proves that the new one opens.
    """
    if key_id == admin.key_id:
        raise ApiProblem("forbidden", "A key does not revoke itself: use the one that replaces it.")
    async with wired.database.transaction() as transaction:
        before = await keys.get(transaction, admin.account_id, key_id)
        person = await _speaks_for(transaction, admin, before.user_id)
        _must_own(admin, before.role, person)
        revoked = await keys.revoke(transaction, admin.account_id, key_id)
        if revoked.first:
            await audit.record(transaction, admin.account_id, _change(admin, "revoke", revoked.record))


async def _person(db: Executor, admin: Principal, body: KeyBody) -> UserRecord | None:
    """Whom the key is to speak for; 422 where nobody could use it as it is asked for."""
    try:
        person = await _speaks_for(db, admin, body.user_id)
    except NotFound:
        raise _refused("user_id", "user_missing", "There is no such user in this account.") from None
    if person is None:
        return None
    if not person.active:
        raise _refused("user_id", "user_inactive", "The user is deactivated: the key would open nothing.")
    if keys.least(body.role, person.role) != body.role:
        told = f"A key of the role {body.role} would allow its user more than their role, {person.role}."
        raise _refused("role", "role_above_user", told)
    return person


async def _speaks_for(db: Executor, admin: Principal, user_id: UUID | None) -> UserRecord | None:
    return None if user_id is None else await users.get(db, admin.account_id, user_id)


def _must_own(admin: Principal, role: Role, person: UserRecord | None) -> None:
    owners = role == "owner" or (person is not None and person.role == "owner")
    if owners and admin.role != "owner":
        raise ApiProblem("forbidden", "Only an owner makes or revokes keys of owners.")


def _refused(field: str, code: str, message: str) -> ApiProblem:
    fault = FieldError(pointer=f"/{field}", code=code, message=message, remedy=_REMEDIES[field])
    return ApiProblem("invalid_request", message, errors=[fault])


def _change(admin: Principal, action: str, key: KeyRecord) -> Change:
    data = {"role": key.role, "prefix": key.prefix, "user_id": str(key.user_id) if key.user_id else None}
    return Change(key_id=admin.key_id, action=action, resource="key", resource_id=key.id, data=data)
