"""Importing a set of templates: created or updated by their names, all or none, in one transaction.

Everything is looked up and checked first, each template with the set's new contents around it. Then the
account's rows are held, and what was looked up is known to be still so; if not, all begins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from db import audit, keys, revisions, template_sets, templates
from db.errors import (
    DatabaseBusy,
    DatabaseError,
    NameTaken,
    NotFound,
    OrchestratorExists,
    RevisionConflict,
    TargetsUnavailable,
    TemplateInUse,
)
from db.ids import new_id
from db.pool import Database, Transaction
from db.templates import TemplateDraft, TemplateRecord
from templates.check import Problem, ProviderTable, targets
from templates.problem import pointer
from templates.sets import CheckedTemplate, check_set
from voicebot.authoring.account_lookup import AccountLookup, account_lookup
from voicebot.authoring.dependents import Dependents
from voicebot.authoring.documents import InvalidTemplate, changed, content_of, uuid_of
from voicebot.authoring.editor import Editor
from voicebot.authoring.import_entries import Entry, Imported
from voicebot.authoring.prechecks import Precheck
from voicebot.vault import Vault, sealed

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """A set that is to be imported.

    Attributes:
        documents: the templates as files have them, each with its pointer in what was sent.
        expect: revisions that the account's templates are to have, by name; None: there is none of the name.
        dry_run: find out what would happen, and change nothing.
    """

    documents: Sequence[tuple[str, Any]]
    expect: Mapping[str, int | None] = field(default_factory=dict)
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedRevision:
    """A template that is not as it was expected to be; ``revision`` of None: there is none."""

    name: str
    expected: int | None
    revision: int | None
    saved_by: str = ""
    """The label of the key, or who else it was."""

    def problem(self) -> Problem:
        """The same as a problem of what was expected."""
        now = f"at revision {self.revision}, saved by {self.saved_by}" if self.revision else "not there"
        was = f"revision {self.expected}" if self.expected else "none of the name"
        return Problem(
            pointer=pointer("expect", self.name),
            code="revision_moved",
            message=f"'{self.name}' is {now}; {was} was expected.",
            remedy="Look at what has changed (`voicebot diff`, or export it again), then decide.",
        )


class SetMoved(Exception):
    """Templates have changed since the importer saw them; look at them, then decide."""

    def __init__(self, moves: Sequence[ExpectedRevision]) -> None:
        self.moves = tuple(moves)
        names = ", ".join(f"'{each.name}'" for each in moves)
        super().__init__(f"Changed since you saw them: {names}.")


class SetRefused(Exception):
    """The database refuses one of the templates; ``cause`` says why."""

    def __init__(self, entry: Entry, cause: DatabaseError) -> None:
        self.entry = entry
        self.cause = cause
        super().__init__(str(cause))


class _Rollback(Exception):
    """A dry run is over."""


class SetImport:
    """Imports sets into accounts."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        http_allow: frozenset[str],
        providers: ProviderTable | None,
        prechecks: Sequence[Precheck],
    ) -> None:
        self._providers = providers
        self._database = database
        self._vault = vault
        self._http_allow = http_allow
        self._prechecks = prechecks

    async def run(self, editor: Editor, wish: ImportOptions) -> list[Imported]:
        """Save a set; what is as it was is not saved again.

        Raises:
            InvalidTemplate: templates are at fault; each pointer leads into what was sent.
            SetMoved: templates are not at the revisions that were expected.
            SetRefused: a number, or other templates of the account, do not allow it.
            DatabaseBusy: others keep changing the same templates.
        """
        for _ in range(_ATTEMPTS):
            documents = [each for _, each in wish.documents]
            found = await account_lookup(
                self._database, editor.account_id, documents, self._http_allow, self._providers
            )
            await self._expect(editor.account_id, wish, found)
            entries = await self._entries(editor, wish, found)
            try:
                await self._write(editor, entries, dry_run=wish.dry_run)
            except (RevisionConflict, NameTaken, NotFound):
                continue  # somebody else was faster: look again
            return [entry.imported(dry_run=wish.dry_run) for entry in entries]
        raise DatabaseBusy("Others keep changing these templates; try again.")

    async def _expect(self, account_id: UUID, wish: ImportOptions, found: AccountLookup) -> None:
        missing = wish.expect.keys() - found.named.keys()
        more = await template_sets.find(self._database, account_id, names=missing) if missing else ()
        now = {record.name: record for record in (*found.named.values(), *more)}
        moves = []
        for name, expected in wish.expect.items():
            record = now.get(name)
            if (record.revision if record else None) != expected:
                moves.append(
                    ExpectedRevision(
                        name=name,
                        expected=expected,
                        revision=record.revision if record else None,
                        saved_by=await self._saver(record) if record else "",
                    )
                )
        if moves:
            raise SetMoved(moves)

    async def _saver(self, record: TemplateRecord) -> str:
        saved = await revisions.get(self._database, record.account_id, record.id, record.revision)
        if saved.saved_by is None:
            return "the command line"
        key = await keys.get(self._database, record.account_id, saved.saved_by)
        return f"the key '{key.label or key.prefix}'"

    async def _entries(self, editor: Editor, wish: ImportOptions, found: AccountLookup) -> list[Entry]:
        documents = [document for _, document in wish.documents]
        checked = await asyncio.to_thread(check_set, documents, found.outside, lambda _: str(new_id()))
        faults: list[Problem] = []
        entries: list[Entry] = []
        for (place, _), each in zip(wish.documents, checked, strict=True):
            if each.content is None:
                refused = each.report.errors
            else:
                entry, refused = self._entry(editor, place, each, found)
                entries.append(entry)
            faults += [replace(problem, pointer=place + problem.pointer) for problem in refused]
        if faults:
            raise InvalidTemplate(faults)
        return entries

    def _entry(
        self, editor: Editor, place: str, checked: CheckedTemplate, found: AccountLookup
    ) -> tuple[Entry, tuple[Problem, ...]]:
        """A template ready to be written, and why it may not be."""
        content, errors = checked.content, checked.report.errors
        assert content is not None  # noqa: S101 - for the type checker
        before = found.named.get(checked.name)
        stored, lost = sealed(
            content.model_dump(mode="json"), self._vault, before.content if before else None
        )
        has_number = content.number_id in (found.outside.active_numbers or {})
        draft = TemplateDraft(
            name=content.name,
            kind=content.kind,
            status=content.status,
            number_id=uuid_of(content.number_id) if has_number else None,
            content=stored,
            problems=[problem.to_json() for problem in errors],
            references=[each for each in map(uuid_of, sorted(targets(content))) if each],
            changed=changed(before.content if before else {}, stored),
            saved_by=editor.key_id,
        )
        refused = (
            errors if content.status == "active" else (each for each in errors if each.pointer == "/name")
        )
        return Entry(place=place, checked=checked, before=before, draft=draft), (*refused, *lost)

    async def _write(self, editor: Editor, entries: Sequence[Entry], *, dry_run: bool) -> None:
        with contextlib.suppress(_Rollback):
            async with self._database.transaction() as transaction:
                await self._hold(transaction, editor, entries)
                for entry in sorted(entries, key=lambda each: each.turn):
                    await self._save(transaction, editor, entry)
                await self._recheck(transaction, editor, entries)
                _undo(dry_run)

    async def _hold(self, transaction: Transaction, editor: Editor, entries: Sequence[Entry]) -> None:
        """Have what is to be replaced stay as it was read, and the numbers free that the set exchanges.

        Raises:
            NotFound, RevisionConflict: it is not as it was read.
        """
        read = [entry.before for entry in entries if entry.before is not None]
        now = await template_sets.hold(transaction, editor.account_id, [each.id for each in read])
        for before in read:
            if before.id not in now:
                raise NotFound("template", before.id)
            if now[before.id] != before.revision:
                raise RevisionConflict("template", before.id, now[before.id])
        freed = [entry.id for entry in entries if entry.gives_number_back]
        await template_sets.release_numbers(transaction, editor.account_id, freed)

    async def _save(self, transaction: Transaction, editor: Editor, entry: Entry) -> None:
        account_id, before = editor.account_id, entry.before
        if before is not None and entry.action == "unchanged":
            if list(before.problems) != list(entry.draft.problems):
                await templates.keep_problems(transaction, account_id, before.id, entry.draft.problems)
            return
        try:
            for precheck in self._prechecks:
                await precheck(transaction, account_id, entry.id, content_of(entry.draft.content))
            if before is None:
                saved = await templates.create(transaction, account_id, entry.draft, template_id=entry.id)
            else:
                saved = await templates.update(
                    transaction, account_id, before.id, entry.draft, expected_revision=before.revision
                )
        except TargetsUnavailable as error:
            raise InvalidTemplate(entry.gone(error)) from None
        except (OrchestratorExists, TemplateInUse) as error:
            raise SetRefused(entry, error) from None
        await audit.record(transaction, account_id, entry.change(editor, saved))

    async def _recheck(self, transaction: Transaction, editor: Editor, entries: Sequence[Entry]) -> None:
        """Check whatever else routes to a template that has changed.

        Raises:
            InvalidTemplate: an active template would no longer pass.
        """
        ours = {entry.id: entry for entry in entries}
        written = [entry.id for entry in entries if entry.action != "unchanged"]
        users = await template_sets.users_of(transaction, editor.account_id, written)
        others = {user: target for target, using in users.items() for user in using if user not in ours}
        dependents = Dependents(editor.account_id, self._http_allow, self._providers)
        for user, target in others.items():
            try:
                await dependents.recheck(transaction, user)
            except InvalidTemplate as error:
                raise InvalidTemplate(ours[target].in_set(error.problems)) from None


def _undo(dry_run: bool) -> None:
    if dry_run:
        raise _Rollback
