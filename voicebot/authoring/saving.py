"""Saving: from a document to a row, its revision and its line in the audit list, in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from db import audit, templates
from db.audit import Change
from db.errors import RevisionConflict, TargetsUnavailable
from db.pool import Database, Transaction
from db.templates import Status, TemplateDraft, TemplateRecord
from templates.check import CheckContext, Problem, ProviderTable, Report, check, targets
from templates.check.rules import problem_for
from templates.model import TemplateContent
from templates.schema import file_schema, template_schema
from templates.sets import CheckedTemplate
from voicebot.authoring.account_lookup import BUILTINS, check_around
from voicebot.authoring.dependents import Dependents
from voicebot.authoring.documents import (
    InvalidTemplate,
    changed,
    read_document,
    uuid_of,
)
from voicebot.authoring.editor import Editor
from voicebot.authoring.import_entries import Imported
from voicebot.authoring.prechecks import PRECHECKS, Precheck
from voicebot.authoring.set_import import ImportOptions, SetImport
from voicebot.vault import Vault, sealed

_ATTEMPTS = 5
_GONE = "The template that this route leads to has just ceased to be an active agent."


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditAction:
    """What is done to a template, as the audit list tells it.

    Attributes:
        action: the verb.
        data: what else the list should say.
        of_stored: whether the document is one that was stored, its secrets sealed.
    """

    action: str
    data: Mapping[str, Any] = field(default_factory=dict)
    of_stored: bool = False


_CREATE = AuditAction(action="create")
_UPDATE = AuditAction(action="update")


class Authoring:
    """Everything that may be done to an account's templates."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        *,
        http_allow: frozenset[str] = frozenset(),
        providers: ProviderTable | None = None,
        prechecks: Sequence[Precheck] = PRECHECKS,
    ) -> None:
        """Save in a database.

        Args:
            database: where templates are.
            vault: seals secret headers.
            http_allow: the private hosts that HTTP functions may reach (``Settings.http_allow``).
            providers: what there is to be named as provider; None: not known, and not checked.
            prechecks: what is looked at before the database decides.
        """
        self._providers = providers
        self._schemas: dict[str, dict[str, Any]] = {}
        self._database = database
        self._vault = vault
        self._http_allow = http_allow
        self._prechecks = prechecks
        self._sets = SetImport(database, vault, http_allow, providers, prechecks)

    async def import_set(self, editor: Editor, wish: ImportOptions) -> list[Imported]:
        """Create and update templates by their names, all or none; see ``SetImport.run``."""
        return await self._sets.run(editor, wish)

    async def check(self, account_id: UUID, document: Any) -> Report:
        """What the check finds in any JSON document, saved or not."""
        [checked] = await self.check_set(account_id, [document])
        return checked.report

    def schema(self, form: Literal["api", "file"]) -> dict[str, Any]:
        """The JSON Schema of a template as the API takes it, or of a file of templates."""
        if form not in self._schemas:
            make = file_schema if form == "file" else template_schema
            self._schemas[form] = make(builtins=BUILTINS, providers=self._providers)
        return self._schemas[form]

    async def check_set(self, account_id: UUID, documents: Sequence[Any]) -> list[CheckedTemplate]:
        """What the check finds in a set of documents, each looked at with the others around it."""
        return await check_around(self._database, account_id, documents, self._http_allow, self._providers)

    async def create(self, editor: Editor, document: Any, *, deed: AuditAction = _CREATE) -> TemplateRecord:
        """Save a new template.

        Raises:
            InvalidTemplate: its shape is at fault, or it is to be active and does not pass the check.
            NameTaken, OrchestratorExists: see db.errors.
        """
        draft = await self._draft(editor, document, None, deed)
        async with _saving(self._database, draft) as transaction:
            saved = await templates.create(transaction, editor.account_id, draft)
            await audit.record(transaction, editor.account_id, _change(editor, deed, saved, None, ()))
        return saved

    async def replace(
        self, editor: Editor, before: TemplateRecord, document: Any, *, deed: AuditAction = _UPDATE
    ) -> TemplateRecord:
        """Save a template anew, if it still is what ``before`` says.

        Raises:
            InvalidTemplate, NameTaken, OrchestratorExists: as for ``create``.
            RevisionConflict: somebody else has saved it meanwhile.
            TemplateInUse: it would no longer be an active agent, and active templates route to it.
        """
        draft = await self._draft(editor, document, before, deed)
        async with _saving(self._database, draft) as transaction:
            saved = await templates.update(
                transaction, editor.account_id, before.id, draft, expected_revision=before.revision
            )
            await self._dependents(editor.account_id).recheck_users(transaction, saved.id)
            await audit.record(
                transaction, editor.account_id, _change(editor, deed, saved, before, draft.changed)
            )
        return saved

    async def set_status(
        self, editor: Editor, template_id: UUID, status: Status, expects: Callable[[int], None]
    ) -> TemplateRecord:
        """Activate or deactivate; a template that is so already stays as it is.

        Args:
            expects: raises if the revision it is given is not the one the editor knows.

        Raises:
            InvalidTemplate, OrchestratorExists, TemplateInUse: as for ``replace``.
            NotFound: the account has no such template.
        """
        for attempt in range(_ATTEMPTS):
            before = await templates.get(self._database, editor.account_id, template_id)
            expects(before.revision)
            if before.status == status:
                return before
            document = {**before.content, "status": status}
            deed = AuditAction(action="activate" if status == "active" else "deactivate", of_stored=True)
            try:
                return await self.replace(editor, before, document, deed=deed)
            except RevisionConflict:
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    async def delete(self, editor: Editor, before: TemplateRecord) -> None:
        """Take a template out of use.

        Raises:
            RevisionConflict, TemplateInUse: as for ``replace``.
        """
        async with self._database.transaction() as transaction:
            await templates.delete(
                transaction, editor.account_id, before.id, expected_revision=before.revision
            )
            await self._dependents(editor.account_id).recheck_users(transaction, before.id)
            change = Change(
                key_id=editor.key_id,
                action="delete",
                resource="template",
                resource_id=before.id,
                revision_before=before.revision,
                data={"name": before.name},
            )
            await audit.record(transaction, editor.account_id, change)

    def _dependents(self, account_id: UUID) -> Dependents:
        return Dependents(account_id, self._http_allow, self._providers)

    async def _draft(
        self, editor: Editor, document: Any, before: TemplateRecord | None, deed: AuditAction
    ) -> TemplateDraft:
        content = read_document(document)
        template_id = before.id if before else None
        around = await self._dependents(editor.account_id).around(self._database, template_id, content)
        report = await _checked(content, around)
        stored, lost = content.model_dump(mode="json"), list[Problem]()
        if not deed.of_stored:
            stored, lost = sealed(stored, self._vault, before.content if before else None)
        nameless = [problem for problem in report.errors if problem.pointer == "/name"]
        refused = [*(report.errors if content.status == "active" else nameless), *lost]
        if refused:
            raise InvalidTemplate(refused)
        for precheck in self._prechecks:
            await precheck(self._database, editor.account_id, template_id, content)
        return TemplateDraft(
            name=content.name,
            kind=content.kind,
            status=content.status,
            number_id=_known_number(content, around),
            content=stored,
            problems=[problem.to_json() for problem in report.errors],
            references=[found for found in map(uuid_of, sorted(targets(content))) if found],
            changed=changed(before.content if before else {}, stored),
            saved_by=editor.key_id,
        )


async def _checked(content: TemplateContent, around: CheckContext) -> Report:
    """The check, beside the event loop: a big template takes longer than a caller's audio may wait."""
    return await asyncio.to_thread(check, content, around)


@contextlib.asynccontextmanager
async def _saving(database: Database, draft: TemplateDraft) -> AsyncIterator[Transaction]:
    """The transaction of a save; a target lost to a race is told as the check would have told it."""
    try:
        async with database.transaction() as transaction:
            yield transaction
    except TargetsUnavailable as error:
        gone = {str(template_id) for template_id in error.template_ids}
        raise InvalidTemplate(
            [
                problem_for("target_inactive", ("routes", index, "template_id"), _GONE)
                for index, route in enumerate(draft.content["routes"])
                if route["template_id"] in gone
            ]
        ) from None


def _known_number(content: TemplateContent, around: CheckContext) -> UUID | None:
    """A draft may name a number that does not exist; it stays in the document alone."""
    known = content.number_id is not None and content.number_id in (around.numbers or {})
    return uuid_of(content.number_id) if known else None


def _change(
    editor: Editor,
    deed: AuditAction,
    saved: TemplateRecord,
    before: TemplateRecord | None,
    members: Sequence[str],
) -> Change:
    return Change(
        key_id=editor.key_id,
        action=deed.action,
        resource="template",
        resource_id=saved.id,
        revision_before=before.revision if before else None,
        revision_after=saved.revision,
        data={"name": saved.name, "changed": list(members), **deed.data},
    )
