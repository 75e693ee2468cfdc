"""Where the templates of a text call come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from db import account_settings, numbers, revisions
from db.errors import NotFound
from db.pool import Database
from db.revisions import TemplateSnapshot
from templates.defaults import CallDefaults

UTC = ZoneInfo("UTC")


class Library(Protocol):
    """Templates by id: those of an account, or those of a file."""

    async def answering(self, template_id: UUID) -> TemplateSnapshot:
        """The template that answers the call.

        Raises:
            NotFound: there is none.
        """
        ...

    async def targets(self, template_ids: Sequence[UUID]) -> Mapping[UUID, TemplateSnapshot]:
        """The given templates, without those that do not exist."""
        ...

    async def time_zone(self, snapshot: TemplateSnapshot) -> ZoneInfo:
        """The time zone of the number that the template answers."""
        ...


class AccountLibrary:
    """The current revisions of an account's templates, drafts included, with what the account sets."""

    def __init__(self, database: Database, account_id: UUID) -> None:
        self._database = database
        self._account_id = account_id

    async def answering(self, template_id: UUID) -> TemplateSnapshot:
        """The template that answers the call.

        Raises:
            NotFound: the account has no such template.
        """
        snapshot = await revisions.for_call(self._database, self._account_id, template_id)
        return (await self._with_defaults({template_id: snapshot}))[template_id]

    async def targets(self, template_ids: Sequence[UUID]) -> Mapping[UUID, TemplateSnapshot]:
        """The given templates, without those that the account does not have."""
        found = await revisions.targets(self._database, self._account_id, template_ids)
        return await self._with_defaults(found) if found else found

    async def _with_defaults(
        self, snapshots: Mapping[UUID, TemplateSnapshot]
    ) -> Mapping[UUID, TemplateSnapshot]:
        account = await account_settings.get(self._database, self._account_id)
        defaults = CallDefaults.of_account(account.backup, transcribes=account.transcribes_takeovers)
        return {
            each: replace(snapshot, content=defaults.applied_to(snapshot.content))
            for each, snapshot in snapshots.items()
        }

    async def time_zone(self, snapshot: TemplateSnapshot) -> ZoneInfo:
        """The time zone of the template's number; UTC if it has no number."""
        try:
            number_id = UUID(snapshot.content.get("number_id") or "")
            number = await numbers.get(self._database, self._account_id, number_id)
        except (ValueError, NotFound):
            return UTC
        return ZoneInfo(number.time_zone)
