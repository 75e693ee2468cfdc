"""Authentication by API key, and authorisation by role."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param

from db import keys
from db.errors import KeyRefused
from db.keys import Role
from voicebot.api.app_state import AppState
from voicebot.api.problems import ApiProblem
from voicebot.authoring import Editor

EVERYBODY: tuple[Role, ...] = ("owner", "admin", "author", "operator", "viewer")

BEARER = HTTPBearer(
    auto_error=False,
    bearerFormat="vb_…",
    scheme_name="key",
    description="An API key: create one with `voicebot keys create`, which shows it once.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The API key of a request: its account and role."""

    account_id: UUID
    key_id: UUID
    role: Role

    @property
    def editor(self) -> Editor:
        """The key as the author of a change of a template."""
        return Editor(account_id=self.account_id, key_id=self.key_id)


async def authenticate(app_state: AppState, authorization: str | None) -> Principal:
    """The key in an ``Authorization`` header.

    Raises:
        ApiProblem: 401, it is missing or not valid.
    """
    scheme, key = get_authorization_scheme_param(authorization)
    if scheme.lower() != "bearer" or not key:
        raise unauthorized("Send `Authorization: Bearer vb_…`.", "")
    try:
        record = await keys.authenticate(app_state.database, key)
    except KeyRefused as error:
        raise unauthorized(str(error), ' error="invalid_token"') from None
    return Principal(account_id=record.account_id, key_id=record.id, role=record.role)


async def principal(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]
) -> Principal:
    """A dependency: the key of the request, which was authenticated before its body was read."""
    authenticated: Principal = request.state.principal
    return authenticated


def allowed(*roles: Role) -> Callable[..., Awaitable[Principal]]:
    """A dependency: the key of the request; 403 unless it has one of the roles."""

    async def authorize(caller: Annotated[Principal, Depends(principal)]) -> Principal:
        if caller.role not in roles:
            raise ApiProblem(
                "forbidden", f"The role {caller.role} does not allow this; it needs {' or '.join(roles)}."
            )
        return caller

    return authorize


def unauthorized(detail: str, parameters: str) -> ApiProblem:
    """401 with the header `WWW-Authenticate` (RFC 6750); ``parameters`` follow the scheme."""
    return ApiProblem("unauthorized", detail, headers={"WWW-Authenticate": f"Bearer{parameters}"})


Reader = Annotated[Principal, Depends(allowed(*EVERYBODY))]
Author = Annotated[Principal, Depends(allowed("owner", "admin", "author"))]
Admin = Annotated[Principal, Depends(allowed("owner", "admin"))]
LeadWriter = Annotated[Principal, Depends(allowed("owner", "admin", "author", "operator"))]
Operator = Annotated[Principal, Depends(allowed("owner", "admin", "operator"))]
