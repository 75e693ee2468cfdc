"""Settings of accounts: prices, retention, defaults of calls, and the key that signs webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from db.errors import NotFound, RevisionConflict
from db.pool import Executor, Row
from db.rows import columns, read


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSettings:
    """The settings of an account."""

    id: UUID
    name: str
    revision: int
    prices: Mapping[str, Any]
    """The prices of its providers (``voicebot.dispatch.costs.Prices``)."""
    transcripts_days: int | None
    """How many days transcripts are kept after the end of a call; None: without limit."""
    payloads_days: int | None
    """The same for the payloads of leads."""
    backup: Mapping[str, Any]
    """The backups for templates that name none (``templates.defaults.AccountBackups``)."""
    transcribes_takeovers: bool
    """Whether takeovers are transcribed if the template does not specify it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsDraft:
    """The columns that a change writes."""

    prices: Mapping[str, Any]
    transcripts_days: int | None = None
    payloads_days: int | None = None
    backup: Mapping[str, Any] = field(default_factory=dict)
    transcribes_takeovers: bool = False


_SETTINGS = columns(AccountSettings)


async def get(db: Executor, account_id: UUID) -> AccountSettings:
    """The settings of an account.

    Raises:
        NotFound: there is no such account.
    """
    row = await db.fetchrow(f"SELECT {_SETTINGS} FROM accounts WHERE id = $1", account_id)  # noqa: S608
    return _found(row, account_id)


async def update(
    db: Executor, account_id: UUID, draft: SettingsDraft, *, expected_revision: int
) -> AccountSettings:
    """Replace the settings of an account.

    Raises:
        NotFound: there is no such account.
        RevisionConflict: they were changed meanwhile.
    """
    row = await db.fetchrow(
        f"""
        UPDATE accounts SET prices = $3, transcripts_days = $4, payloads_days = $5, backup = $6,
            transcribes_takeovers = $7, revision = revision + 1
        WHERE id = $1 AND revision = $2 RETURNING {_SETTINGS}
        """,  # noqa: S608 - only column names
        account_id,
        expected_revision,
        draft.prices,
        draft.transcripts_days,
        draft.payloads_days,
        draft.backup,
        draft.transcribes_takeovers,
    )
    if row is None:
        raise RevisionConflict("account", account_id, (await get(db, account_id)).revision)
    return read(AccountSettings, row)


async def webhook_secret(db: Executor, account_id: UUID, sealed: str) -> str:
    """The account's key for webhooks, encrypted; ``sealed`` is stored if it has none.

    Raises:
        NotFound: there is no such account.
    """
    row = await db.fetchrow(
        """
        UPDATE accounts SET webhook_secret = coalesce(webhook_secret, $2) WHERE id = $1
        RETURNING webhook_secret
        """,
        account_id,
        sealed,
    )
    secret: str = _present(row, account_id)["webhook_secret"]
    return secret


async def replace_webhook_secret(db: Executor, account_id: UUID, sealed: str) -> None:
    """Store another key for webhooks.

    Raises:
        NotFound: there is no such account.
    """
    if not await db.execute("UPDATE accounts SET webhook_secret = $2 WHERE id = $1", account_id, sealed):
        raise NotFound("account", account_id)


def _present(row: Row | None, account_id: UUID) -> Row:
    if row is None:
        raise NotFound("account", account_id)
    return row


def _found(row: Row | None, account_id: UUID) -> AccountSettings:
    return read(AccountSettings, _present(row, account_id))
