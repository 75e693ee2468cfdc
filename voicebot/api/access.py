"""Who asks, and what their role allows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from db import keys
from db.errors import KeyRefused
from db.keys import Role
from voicebot.api.app_state import AppStateDep
from voicebot.api.problems import ApiProblem
from voicebot.authoring import Editor

EVERYBODY: tuple[Role, ...] = ("owner", "admin", "author", "operator", "viewer")

BEARER = HTTPBearer(
    auto_error=False,
    bearerFormat="vb_…",
    scheme_name="key",
    description="An API key: `voicebot keys create` shows it once.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The holder of the key that a request came with."""

    account_id: UUID
    key_id: UUID
    role: Role

    @property
    def editor(self) -> Editor:
        """The caller as the author of a change."""
        return Editor(account_id=self.account_id, key_id=self.key_id)


async def principal(
    wired: AppStateDep, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]
) -> Principal:
    """Whose key the request carries; 401 without a good one."""
    if credentials is None:
        raise unauthorized("Send `Authorization: Bearer vb_…`.", "")
    try:
        key = await keys.authenticate(wired.database, credentials.credentials)
    except KeyRefused as error:
        raise unauthorized(str(error), ' error="invalid_token"') from None
    return Principal(account_id=key.account_id, key_id=key.id, role=key.role)


def allowed(*roles: Role) -> Callable[..., Awaitable[Principal]]:
    """A dependency: the caller, if they have one of the roles; else 403."""

    async def permitted(asking: Annotated[Principal, Depends(principal)]) -> Principal:
        if asking.role not in roles:
            raise ApiProblem(
                "forbidden", f"The role {asking.role} does not allow this; it needs {' or '.join(roles)}."
            )
        return asking

    return permitted


def unauthorized(detail: str, parameters: str) -> ApiProblem:
    """401, with what RFC 6750 wants said in `WWW-Authenticate`."""
    return ApiProblem("unauthorized", detail, headers={"WWW-Authenticate": f"Bearer{parameters}"})


Reader = Annotated[Principal, Depends(allowed(*EVERYBODY))]
Author = Annotated[Principal, Depends(allowed("owner", "admin", "author"))]
Admin = Annotated[Principal, Depends(allowed("owner", "admin"))]
LeadWriter = Annotated[Principal, Depends(allowed("owner", "admin", "author", "operator"))]
Operator = Annotated[Principal, Depends(allowed("owner", "admin", "operator"))]
