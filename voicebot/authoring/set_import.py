"""Importing a set of templates: created or updated by their names, all or none, in one transaction.

First everything is looked up and checked, each template against the new contents of the set. Then a
transaction locks the rows. If one of them has changed since the look-up, the import starts again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

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
from db.pool import Transaction
from db.templates import TemplateRecord
from templates.check import MAX_PROBLEMS, Problem
from templates.model import TemplateContent
from templates.problem import pointer
from templates.sets import CheckedTemplate, SetContext, check_set
from voicebot.authoring.account_lookup import SetLookup, StoredContent, contents_of
from voicebot.authoring.documents import InvalidTemplate
from voicebot.authoring.import_entries import Entry, Imported
from voicebot.authoring.saving import Authoring, Editor, draft_of, refused_problems, stored_document
from voicebot.authoring.sources import read_source
from voicebot.vault import Vault

_ATTEMPTS = 5

_AT_ONCE = 20
"""How many templates are made ready to be written at once, where templates are checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """A set of templates to import."""

    documents: Sequence[tuple[str, Any]]
    """The templates in the format of files (or sources of them), each with its pointer into the body."""
    expect: Mapping[str, int | None] = field(default_factory=dict)
    """Template name → the revision it must have in the account; None: it must not exist there."""
    dry_run: bool = False
    """Whether to compute the result without changing anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedRevision:
    """A template that is not at the expected revision; ``revision`` is None where the account has none."""

    name: str
    expected: int | None
    revision: int | None
    saved_by: str = ""
    """The key's label, or the command line."""

    def problem(self) -> Problem:
        """The same as a problem of the member ``expect``."""
        now = f"at revision {self.revision}, saved by {self.saved_by}" if self.revision else "missing"
        was = f"revision {self.expected}" if self.expected else "no template of the name"
        return Problem(
            pointer=pointer("expect", self.name),
            code="revision_moved",
            message=f"'{self.name}' is {now}; {was} was expected.",
            remedy="Look at the changes (`voicebot diff`, or export it again), then decide.",
        )


class RevisionsMoved(Exception):
    """Templates have changed since the client read them; compare them before you import again."""

    def __init__(self, moves: Sequence[ExpectedRevision]) -> None:
        self.moves = tuple(moves)
        names = ", ".join(f"'{each.name}'" for each in moves)
        super().__init__(f"Changed since you read them: {names}.")


class SetRefused(Exception):
    """The database refuses one of the templates; ``cause`` says why."""

    def __init__(self, entry: Entry, cause: DatabaseError) -> None:
        self.entry = entry
        self.cause = cause
        super().__init__(str(cause))


class _Rollback(Exception):
    """Ends the transaction of a dry run."""


async def import_set(authoring: Authoring, editor: Editor, options: ImportOptions) -> list[Imported]:
    """Save a set of templates. Those that would not change are not saved again.

    Raises:
        InvalidTemplate: templates have faults; each pointer leads into the request's body.
        RevisionsMoved: templates are not at the expected revisions.
        SetRefused: a number, or other templates of the account, do not allow it.
        DatabaseBusy: other requests keep changing the same templates.
    """
    return await _SetImport(authoring, editor, options).run()


class _SetImport:
    """One import."""

    def __init__(self, authoring: Authoring, editor: Editor, options: ImportOptions) -> None:
        self._authoring = authoring
        self._database = authoring.database
        self._account = authoring.account(editor.account_id)
        self._editor = editor
        self._options = options

    async def run(self) -> list[Imported]:
        documents = [document for _, document in self._options.documents]
        for _ in range(_ATTEMPTS):
            lookup = await self._account.look_up_set(self._database, documents)
            await self._expect(lookup)
            entries = await self._entries(lookup)
            try:
                await self._write(entries)
            except (RevisionConflict, NameTaken, NotFound):
                continue  # Another request has changed the templates: look them up again.
            return [entry.imported(dry_run=self._options.dry_run) for entry in entries]
        raise DatabaseBusy("Other requests keep changing these templates; try again.")

    async def _expect(self, lookup: SetLookup) -> None:
        account_id, expect = self._editor.account_id, self._options.expect
        missing = expect.keys() - lookup.named.keys()
        more = await template_sets.find(self._database, account_id, names=missing) if missing else ()
        now = {record.name: record for record in (*lookup.named.values(), *more)}
        moves = []
        for name, expected in expect.items():
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
            raise RevisionsMoved(moves)

    async def _saver(self, record: TemplateRecord) -> str:
        saved = await revisions.get(self._database, record.account_id, record.id, record.revision)
        if saved.saved_by is None:
            return "the command line"
        key = await keys.get(self._database, record.account_id, saved.saved_by)
        return f"the key '{key.label or key.prefix}'"

    async def _entries(self, lookup: SetLookup) -> list[Entry]:
        run, account_id = self._authoring.checks.run, self._editor.account_id
        documents = [document for _, document in self._options.documents]
        checked = await run(account_id, _checked, documents, lookup.context, lookup.stored)
        listed = [
            (place, each, lookup.named.get(each.name))
            for (place, _), each in zip(self._options.documents, checked, strict=True)
        ]
        known_numbers = frozenset(lookup.context.known_numbers or ())
        vault, editor = self._authoring.vault, self._editor
        faults: list[Problem] = []
        entries: list[Entry] = []
        # In parts: a result is unpickled on the event loop.
        for start in range(0, len(listed), _AT_ONCE):
            part = listed[start : start + _AT_ONCE]
            more, refused = await run(account_id, _entries, part, known_numbers, vault, editor)
            entries += more
            faults += refused
            if len(faults) >= MAX_PROBLEMS:
                break
        if faults:
            raise InvalidTemplate(faults[:MAX_PROBLEMS])
        return entries

    async def _write(self, entries: Sequence[Entry]) -> None:
        with contextlib.suppress(_Rollback):
            async with self._database.transaction() as transaction:
                await self._lock(transaction, entries)
                for entry in sorted(entries, key=lambda each: each.write_order):
                    await self._save(transaction, entry)
                for entry in entries:
                    await self._settle(transaction, entry)
                await self._recheck_others(transaction, entries)
                _roll_back_if(self._options.dry_run)

    async def _lock(self, transaction: Transaction, entries: Sequence[Entry]) -> None:
        """Lock the rows that are replaced, and release the numbers that templates of the set exchange.

        Raises:
            NotFound, RevisionConflict: a row has changed since it was read.
        """
        account_id = self._editor.account_id
        read = [entry.before for entry in entries if entry.before is not None]
        revisions_now = await template_sets.lock(transaction, account_id, [each.id for each in read])
        for before in read:
            if before.id not in revisions_now:
                raise NotFound("template", before.id)
            if revisions_now[before.id] != before.revision:
                raise RevisionConflict("template", before.id, revisions_now[before.id])
        released = [entry.id for entry in entries if entry.releases_number]
        await template_sets.release_numbers(transaction, account_id, released)

    async def _save(self, transaction: Transaction, entry: Entry) -> None:
        account_id, before = self._editor.account_id, entry.before
        if before is not None and entry.action == "unchanged":
            if list(before.problems) != list(entry.draft.problems):
                await templates.keep_problems(transaction, account_id, before.id, entry.draft.problems)
            return
        try:
            if before is None:
                saved = await templates.create(
                    transaction, account_id, entry.draft, template_id=entry.id, in_set=True
                )
            else:
                saved = await templates.update(
                    transaction,
                    account_id,
                    before.id,
                    entry.draft,
                    expected_revision=before.revision,
                    in_set=True,
                )
        except (OrchestratorExists, TemplateInUse) as error:
            raise SetRefused(entry, error) from None
        await audit.record(transaction, account_id, entry.change(self._editor, saved))

    async def _settle(self, transaction: Transaction, entry: Entry) -> None:
        """Lock the targets of a template, which may be templates of the set that were written after it."""
        if entry.action == "unchanged" or not entry.draft.references:
            return
        try:
            await templates.settle_targets(transaction, self._editor.account_id, entry.id, entry.draft)
        except TargetsUnavailable as error:
            raise InvalidTemplate(entry.lost_targets(error)) from None

    async def _recheck_others(self, transaction: Transaction, entries: Sequence[Entry]) -> None:
        """Check the templates outside of the set that route to a template that has changed.

        Raises:
            InvalidTemplate: an active template would no longer pass.
        """
        ours = {entry.id: entry for entry in entries}
        written = [entry.id for entry in entries if entry.action != "unchanged"]
        users = await template_sets.users_of(transaction, self._editor.account_id, written)
        others = {user: target for target, using in users.items() for user in using if user not in ours}
        for user, target in others.items():
            try:
                await self._account.recheck(transaction, user)
            except InvalidTemplate as error:
                raise InvalidTemplate(ours[target].in_set(error.problems)) from None


def _checked(
    documents: Sequence[Any], context: SetContext, stored: Sequence[StoredContent]
) -> list[CheckedTemplate]:
    written = [read_source(each) for each in documents]
    return check_set(written, replace(context, templates=contents_of(stored)), lambda _: str(new_id()))


def _entries(
    listed: Sequence[tuple[str, CheckedTemplate, TemplateRecord | None]],
    known_numbers: frozenset[str],
    vault: Vault,
    editor: Editor,
) -> tuple[list[Entry], list[Problem]]:
    """Templates ready to be written, and the problems that keep templates from being saved."""
    entries: list[Entry] = []
    faults: list[Problem] = []
    for place, checked, before in listed:
        if checked.content is None:
            refused = list(checked.report.errors)
        else:
            entry, refused = _entry(place, checked, checked.content, before, known_numbers, vault, editor)
            entries.append(entry)
        faults += [replace(problem, pointer=place + problem.pointer) for problem in refused]
    return entries, faults


def _entry(
    place: str,
    checked: CheckedTemplate,
    content: TemplateContent,
    before: TemplateRecord | None,
    known_numbers: frozenset[str],
    vault: Vault,
    editor: Editor,
) -> tuple[Entry, list[Problem]]:
    """A template ready to be written, and the problems that keep it from being saved."""
    errors = checked.report.errors
    stored, missing_secrets = stored_document(content, vault, before)
    draft = draft_of(content, stored, errors, before, known_numbers, editor)
    entry = Entry(place=place, checked=checked, before=before, draft=draft)
    return entry, [*refused_problems(content, errors), *missing_secrets]


def _roll_back_if(dry_run: bool) -> None:
    if dry_run:
        raise _Rollback
