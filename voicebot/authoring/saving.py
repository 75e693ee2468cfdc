"""Saving a template: from a document to its row, revision and audit entry, in one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal
from uuid import UUID

from db import audit, templates
from db.audit import Change
from db.errors import RevisionConflict, TargetsUnavailable
from db.pool import Database, Transaction
from db.templates import Status, TemplateDraft, TemplateRecord
from templates.check import BUILTIN_FUNCTIONS, CarrierRules, Problem, ProviderTable, Report, targets
from templates.check.rules import problem_for
from templates.model import TemplateContent
from templates.schema import file_schema, template_schema
from voicebot.authoring.account_lookup import AccountLookup, check_against
from voicebot.authoring.check_pool import Checks, DirectChecks
from voicebot.authoring.documents import InvalidTemplate, changed, content_of, read_document, uuid_of
from voicebot.vault import Vault, sealed

_ATTEMPTS = 5
_TARGET_LOST = "The template that this route leads to has just ceased to be an active agent."


@dataclass(frozen=True, slots=True, kw_only=True)
class Editor:
    """Who changes something: an API key of an account, or (None) the command line."""

    account_id: UUID
    key_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditAction:
    """How the audit log names a change of a template."""

    action: str
    """A verb."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """More facts for the log."""
    is_stored: bool = False
    """Whether the document is one that was stored, so that its secrets are encrypted already."""


_CREATE = AuditAction(action="create")
_UPDATE = AuditAction(action="update")


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedTemplate(TemplateRecord):
    """A template that was just saved, with what the check warns of."""

    warnings: Sequence[Problem]

    @classmethod
    def of(cls, record: TemplateRecord, warnings: Sequence[Problem]) -> SavedTemplate:
        """The row with its warnings."""
        return cls(**{each.name: getattr(record, each.name) for each in fields(record)}, warnings=warnings)


@dataclass(frozen=True, slots=True)
class Authoring:
    """Checks and saves the templates of accounts.

    A document may be any JSON, or a source of it (``sources``); then ``InvalidJson`` may be raised.
    """

    database: Database
    vault: Vault
    http_allow: frozenset[str] = frozenset()
    """Private hosts (`host:port`) that HTTP functions may reach (``Settings.http_allow``)."""
    providers: ProviderTable | None = None
    """The providers that templates may name; None: they are not checked."""
    builtins: frozenset[str] = BUILTIN_FUNCTIONS
    """Names of the built-in functions of this server."""
    checks: Checks = field(default_factory=DirectChecks)
    """Where the checks run."""
    carriers: Mapping[str, CarrierRules] = field(default_factory=dict)
    """What calls can do, by the name of their carrier."""
    _schemas: dict[str, dict[str, Any]] = field(default_factory=dict, init=False, repr=False)

    def account(self, account_id: UUID) -> AccountLookup:
        """What the checks of an account's templates look up."""
        return AccountLookup(
            account_id, self.http_allow, self.providers, self.builtins, self.checks, self.carriers
        )

    async def check(self, account_id: UUID, document: Any) -> Report:
        """Check any document, saved or not."""
        return await self.account(account_id).report(self.database, document)

    async def with_warnings(self, record: TemplateRecord) -> SavedTemplate:
        """A saved template with what the check warns of now.

        Raises:
            TooManyChecks: there is no time for it.
        """
        account = self.account(record.account_id)
        content = content_of(record.content, status=record.status)
        context, related = await account.context(self.database, record.id, content)
        report = await self.checks.run(record.account_id, check_against, content, context, related)
        return SavedTemplate.of(record, report.warnings)

    def schema(self, form: Literal["api", "file"]) -> dict[str, Any]:
        """The JSON Schema of a template as the API takes it, or of a file of templates."""
        if form not in self._schemas:
            make = file_schema if form == "file" else template_schema
            self._schemas[form] = make(builtins=self.builtins, providers=self.providers)
        return self._schemas[form]

    async def create(
        self, editor: Editor, document: Any, *, audit_action: AuditAction = _CREATE
    ) -> SavedTemplate:
        """Save a new template.

        Raises:
            InvalidTemplate: it has not the shape of a template, or is active and does not pass the check.
            NameTaken, OrchestratorExists: see db.errors.
        """
        draft, warnings = await self._draft(editor, document, None, audit_action)
        async with _saving(self.database, draft) as transaction:
            saved = await templates.create(transaction, editor.account_id, draft)
            await audit.record(transaction, editor.account_id, _change(editor, audit_action, saved, None, ()))
        return SavedTemplate.of(saved, warnings)

    async def replace(
        self, editor: Editor, before: TemplateRecord, document: Any, *, audit_action: AuditAction = _UPDATE
    ) -> SavedTemplate:
        """Replace a template, if it is still at the revision of ``before``.

        Raises:
            InvalidTemplate, NameTaken, OrchestratorExists: as for ``create``.
            RevisionConflict: another request has saved it since.
            TemplateInUse: it would no longer be an active agent, and active templates route to it.
        """
        draft, warnings = await self._draft(editor, document, before, audit_action)
        async with _saving(self.database, draft) as transaction:
            saved = await templates.update(
                transaction, editor.account_id, before.id, draft, expected_revision=before.revision
            )
            await self.account(editor.account_id).recheck_users(transaction, saved.id)
            change = _change(editor, audit_action, saved, before, draft.changed)
            await audit.record(transaction, editor.account_id, change)
        return SavedTemplate.of(saved, warnings)

    async def set_status(
        self, editor: Editor, template_id: UUID, status: Status, expect: Callable[[int], None]
    ) -> TemplateRecord:
        """Activate or deactivate a template. One that has the status already is not saved again.

        Args:
            editor: who asks for it.
            template_id: the template.
            status: the new status.
            expect: raises if the revision that it is given is not one that the editor expects.

        Raises:
            InvalidTemplate, OrchestratorExists, TemplateInUse: as for ``replace``.
            NotFound: the account has no such template.
        """
        audit_action = AuditAction(action="activate" if status == "active" else "deactivate", is_stored=True)
        for attempt in range(_ATTEMPTS):
            before = await templates.get(self.database, editor.account_id, template_id)
            expect(before.revision)
            if before.status == status:
                return before
            document = {**before.content, "status": status}
            try:
                return await self.replace(editor, before, document, audit_action=audit_action)
            except RevisionConflict:
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    async def delete(self, editor: Editor, before: TemplateRecord) -> None:
        """Delete a template.

        Raises:
            RevisionConflict, TemplateInUse: as for ``replace``.
        """
        async with self.database.transaction() as transaction:
            await templates.delete(
                transaction, editor.account_id, before.id, expected_revision=before.revision
            )
            await self.account(editor.account_id).recheck_users(transaction, before.id)
            change = Change(
                key_id=editor.key_id,
                action="delete",
                resource="template",
                resource_id=before.id,
                revision_before=before.revision,
                data={"name": before.name},
            )
            await audit.record(transaction, editor.account_id, change)

    async def _draft(
        self, editor: Editor, document: Any, before: TemplateRecord | None, audit_action: AuditAction
    ) -> tuple[TemplateDraft, Sequence[Problem]]:
        run, account_id = self.checks.run, editor.account_id
        content = await run(account_id, read_document, document)
        template_id = before.id if before else None
        context, related = await self.account(account_id).context(self.database, template_id, content)
        report = await run(account_id, check_against, content, context, related)
        vault = None if audit_action.is_stored else self.vault
        stored, missing_secrets = await run(account_id, stored_document, content, vault, before)
        if refused := [*refused_problems(content, report.errors), *missing_secrets]:
            raise InvalidTemplate(refused)
        known_numbers = context.numbers or {}
        draft = await run(account_id, draft_of, content, stored, report.errors, before, known_numbers, editor)
        return draft, report.warnings


def stored_document(
    content: TemplateContent, vault: Vault | None, before: TemplateRecord | None
) -> tuple[dict[str, Any], list[Problem]]:
    """The document to store, with encrypted secrets (if there is a vault), and problems of its secrets."""
    document = content.model_dump(mode="json")
    return sealed(document, vault, before.content if before else None) if vault else (document, [])


def refused_problems(content: TemplateContent, errors: Sequence[Problem]) -> list[Problem]:
    """The errors that keep a template from being saved. A draft may have every error but one of its name."""
    return [error for error in errors if content.status == "active" or error.pointer == "/name"]


def draft_of(
    content: TemplateContent,
    stored: Mapping[str, Any],
    errors: Sequence[Problem],
    before: TemplateRecord | None,
    known_numbers: Container[str],
    editor: Editor,
) -> TemplateDraft:
    """The row to write.

    Args:
        content: the template.
        stored: its document with encrypted secrets.
        errors: what the check has found, for a draft's problems.
        before: the row that it replaces, if any.
        known_numbers: ids of the account's numbers; another one that a draft names stays in its document.
        editor: who saves.
    """
    return TemplateDraft(
        name=content.name,
        kind=content.kind,
        status=content.status,
        number_id=uuid_of(content.number_id) if content.number_id in known_numbers else None,
        content=stored,
        problems=[error.to_json() for error in errors],
        references=[found for found in map(uuid_of, sorted(targets(content))) if found],
        changed=changed(before.content if before else {}, stored),
        saved_by=editor.key_id,
    )


def lost_targets(error: TargetsUnavailable, draft: TemplateDraft) -> list[Problem]:
    """Targets that another request has just deactivated, as problems with the wording of the check."""
    lost = {str(template_id) for template_id in error.template_ids}
    return [
        problem_for("target_inactive", ("routes", index, "template_id"), _TARGET_LOST)
        for index, route in enumerate(draft.content["routes"])
        if route["template_id"] in lost
    ]


@contextlib.asynccontextmanager
async def _saving(database: Database, draft: TemplateDraft) -> AsyncIterator[Transaction]:
    """The transaction of a save."""
    try:
        async with database.transaction() as transaction:
            yield transaction
    except TargetsUnavailable as error:
        raise InvalidTemplate(lost_targets(error, draft)) from None


def _change(
    editor: Editor,
    audit_action: AuditAction,
    saved: TemplateRecord,
    before: TemplateRecord | None,
    members: Sequence[str],
) -> Change:
    return Change(
        key_id=editor.key_id,
        action=audit_action.action,
        resource="template",
        resource_id=saved.id,
        revision_before=before.revision if before else None,
        revision_after=saved.revision,
        data={"name": saved.name, "changed": list(members), **audit_action.data},
    )
