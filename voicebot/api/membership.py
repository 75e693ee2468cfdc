"""Changes of users and keys: serialised, and checked against the current role of the request's key."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from db import keys, owners
from db.errors import KeyRefused
from db.pool import Transaction
from voicebot.api.access import Principal, unauthorized
from voicebot.api.app_state import AppState
from voicebot.api.problems import ApiProblem


@contextlib.asynccontextmanager
async def changing_members(state: AppState, admin: Principal) -> AsyncIterator[tuple[Transaction, Principal]]:
    """A transaction for a change of users or keys, and the request's key as it is now.

    Between the authentication of the request and this transaction, another request may have revoked the key
    or changed its user's role.
    """
    async with owners.changing(state.database, admin.account_id) as transaction:
        try:
            key = await keys.get_valid(transaction, admin.account_id, admin.key_id)
        except KeyRefused as error:
            raise unauthorized(str(error), ' error="invalid_token"') from None
        if key.role not in ("owner", "admin"):
            raise ApiProblem(
                "forbidden", f"The role {key.role} does not allow this; it needs owner or admin."
            )
        yield transaction, replace(admin, role=key.role)


def require_owner(admin: Principal, detail: str) -> None:
    """403 with ``detail`` unless the key is one of an owner."""
    if admin.role != "owner":
        raise ApiProblem("forbidden", detail)
