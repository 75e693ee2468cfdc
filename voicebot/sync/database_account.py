"""An account in the database that the settings name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from db import templates
from db.errors import DatabaseError, RevisionConflict
from db.pool import Database
from templates.problem import Problem, pointer
from voicebot.authoring import (
    Authoring,
    Editor,
    ImportOptions,
    InvalidTemplate,
    RevisionsMoved,
    SetRefused,
    export,
    find_exported,
    import_set,
)
from voicebot.sync.account import Refused, SaveResult, StoredTemplate


class DatabaseAccount:
    """An account that the command line changes without an API key."""

    def __init__(self, database: Database, authoring: Authoring, account_id: UUID) -> None:
        self._database = database
        self._authoring = authoring
        self._editor = Editor(account_id=account_id, key_id=None)

    @property
    def place(self) -> str:
        """See ``Account``."""
        return f"account {self._editor.account_id}"

    async def templates(self) -> Sequence[StoredTemplate]:
        """See ``Account``."""
        account_id = self._editor.account_id
        found = await find_exported(self._database, account_id)
        return [
            StoredTemplate(name=each.record.name, revision=each.record.revision, document=each.document)
            async for each in export(self._database, self._authoring.checks, account_id, found)
        ]

    async def save(
        self, documents: Sequence[Any], expect: Mapping[str, int | None], *, dry_run: bool
    ) -> Sequence[SaveResult]:
        """See ``Account``."""
        listed = [(pointer("templates", index), each) for index, each in enumerate(documents)]
        try:
            options = ImportOptions(documents=listed, expect=expect, dry_run=dry_run)
            imported = await import_set(self._authoring, self._editor, options)
        except InvalidTemplate as error:
            raise Refused("The templates have faults.", error.problems) from None
        except RevisionsMoved as error:
            raise Refused(
                "Templates have been saved since your last pull.", [move.problem() for move in error.moves]
            ) from None
        except SetRefused as error:
            problem = Problem(pointer=error.entry.place, code="refused", message=str(error), remedy="")
            raise Refused(str(error), [problem]) from None
        except DatabaseError as error:
            raise Refused(str(error)) from None
        return [
            SaveResult(
                name=each.name, action=each.action, revision=each.revision, problems=len(each.problems)
            )
            for each in imported
        ]

    async def delete(self, name: str, revision: int) -> None:
        """See ``Account``."""
        try:
            record = await templates.by_name(self._database, self._editor.account_id, name)
            if record.revision != revision:
                raise RevisionConflict("template", record.id, record.revision)
            await self._authoring.delete(self._editor, record)
        except DatabaseError as error:
            raise Refused(f"'{name}' was not deleted: {error}") from None
