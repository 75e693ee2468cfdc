"""Saving templates: what an author's document goes through before it is a row.

Shape first, then the whole check against the account's other templates and numbers, then secrets are
sealed, then one transaction writes template, revision and audit. A draft may have any fault of the check; it
is stored with them as its `problems`. What must hold when several people save at once is held by the database
alone: the prechecks only make the refusal friendlier, and deleting them changes nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from db import audit, numbers, revisions, templates
from db.audit import Change
from db.errors import NotFound, OrchestratorExists, RevisionConflict, TargetsUnavailable
from db.pool import Database, Executor, Transaction
from db.templates import Status, TemplateDraft, TemplateFilter, TemplateRecord
from handlers.registry import HANDLERS
from templates.check import Report, Surroundings, check, check_document, targets
from templates.check.rules import broken
from templates.model import TemplateContent
from templates.problem import Problem
from voicebot.vault import Vault, masked, sealed

KNOWN_BY_SERVER = frozenset({"id", "revision", "problems", "created_at", "updated_at"})
"""Members that the server answers and an author may send back unchanged; they are left aside."""

_ATTEMPTS = 5
_GONE = "The template that this route leads to has just ceased to be an active agent."


class InvalidTemplate(ValueError):
    """The template cannot be saved as it is; the same document will be refused again."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        super().__init__(f"The template has {count} {'fault' if count == 1 else 'faults'}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Editor:
    """Who changes something: an API key of an account, or (None) the command line."""

    account_id: UUID
    key_id: UUID | None


Precheck = Callable[[Executor, UUID, UUID | None, TemplateContent], Awaitable[None]]
"""Looks at (database, account, the template if it exists, what it shall become) before a save."""


async def no_other_orchestrator(
    db: Executor, account_id: UUID, template_id: UUID | None, content: TemplateContent
) -> None:
    """Name the orchestrator that has the number, before the database has to refuse this one.

    Raises:
        OrchestratorExists: the number is answered by another one.
    """
    number_id = _uuid(content.number_id)
    if number_id is None or (content.kind, content.status) != ("orchestrator", "active"):
        return
    where = TemplateFilter(kind="orchestrator", status="active", number_id=number_id)
    found = await templates.list_templates(db, account_id, where, limit=1)
    for other in found.items:
        if other.id != template_id:
            raise OrchestratorExists(other.id, other.name)


PRECHECKS: tuple[Precheck, ...] = (no_other_orchestrator,)


class Authoring:
    """Everything that may be done to an account's templates."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        *,
        http_allow: frozenset[str] = frozenset(),
        prechecks: Sequence[Precheck] = PRECHECKS,
    ) -> None:
        """``http_allow`` are the private hosts that HTTP functions may reach (``Settings.http_allow``)."""
        self._database = database
        self._vault = vault
        self._http_allow = http_allow
        self._prechecks = prechecks

    async def check(self, account_id: UUID, document: Any) -> Report:
        """What the check finds in any JSON document, saved or not."""
        content, report = check_document(own_part(document))
        if content is None:
            return report
        template_id = _uuid(document.get("id"))
        return check(content, await self._surroundings(account_id, template_id, content))

    async def create(self, editor: Editor, document: Any) -> TemplateRecord:
        """Save a new template.

        Raises:
            InvalidTemplate: its shape is at fault, or it is to be active and does not pass the check.
            NameTaken, OrchestratorExists: see db.errors.
        """
        draft = await self._draft(editor, document, None)
        async with _saving(self._database, draft) as transaction:
            saved = await templates.create(transaction, editor.account_id, draft)
            await audit.record(transaction, editor.account_id, _change(editor, "create", saved, None))
        return saved

    async def replace(
        self, editor: Editor, before: TemplateRecord, document: Any, *, action: str = "update"
    ) -> TemplateRecord:
        """Save a template anew, if it still is what ``before`` says.

        Raises:
            InvalidTemplate, NameTaken, OrchestratorExists: as for ``create``.
            RevisionConflict: somebody else has saved it meanwhile.
            TemplateInUse: it would no longer be an active agent, and active templates route to it.
        """
        draft = await self._draft(editor, document, before)
        async with _saving(self._database, draft) as transaction:
            saved = await templates.update(
                transaction, editor.account_id, before.id, draft, expected_revision=before.revision
            )
            await audit.record(transaction, editor.account_id, _change(editor, action, saved, before))
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
            document = {**shown(before), "status": status}
            action = "activate" if status == "active" else "deactivate"
            try:
                return await self.replace(editor, before, document, action=action)
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
            change = Change(
                key_id=editor.key_id,
                action="delete",
                resource="template",
                resource_id=before.id,
                revision_before=before.revision,
                data={"name": before.name},
            )
            await audit.record(transaction, editor.account_id, change)

    async def _draft(self, editor: Editor, document: Any, before: TemplateRecord | None) -> TemplateDraft:
        content = read_document(document)
        template_id = before.id if before else None
        around = await self._surroundings(editor.account_id, template_id, content)
        report = check(content, around)
        stored, lost = sealed(
            content.model_dump(mode="json"), self._vault, before.content if before else None
        )
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
            references=[found for found in map(_uuid, sorted(targets(content))) if found],
            changed=_changed(before.content if before else {}, stored),
            saved_by=editor.key_id,
        )

    async def _surroundings(
        self, account_id: UUID, template_id: UUID | None, content: TemplateContent
    ) -> Surroundings:
        near = {found for found in map(_uuid, targets(content)) if found}
        if template_id is not None:
            near |= set(await templates.used_by(self._database, account_id, template_id))
        found = await revisions.targets(self._database, account_id, sorted(near)) if near else {}
        return Surroundings(
            template_id=str(template_id) if template_id else None,
            templates={str(each.id): content_of(each.content, status=each.status) for each in found.values()},
            numbers=await self._number_states(account_id, _uuid(content.number_id)),
            builtins=frozenset(HANDLERS),
            http_allow=self._http_allow,
        )

    async def _number_states(self, account_id: UUID, number_id: UUID | None) -> Mapping[str, bool]:
        if number_id is None:
            return {}
        try:
            number = await numbers.get(self._database, account_id, number_id)
        except NotFound:
            return {}
        return {str(number.id): number.active}


def own_part(document: Any) -> Any:
    """A document without what only the server says of it."""
    if not isinstance(document, dict):
        return document
    return {name: value for name, value in document.items() if name not in KNOWN_BY_SERVER}


def read_document(document: Any) -> TemplateContent:
    """The template in a document.

    Raises:
        InvalidTemplate: its shape is at fault; every fault that can be found in it is told.
    """
    try:
        return TemplateContent.model_validate(own_part(document))
    except ValidationError:
        _, report = check_document(own_part(document))
        raise InvalidTemplate(report.errors) from None


def content_of(document: Mapping[str, Any], **changes: Any) -> TemplateContent:
    """The template in a stored document, secrets still sealed."""
    return TemplateContent.model_validate({**document, **changes})


def shown(record: TemplateRecord) -> dict[str, Any]:
    """A template as the API answers it, JSON values only."""
    content = masked(record.content)
    return {
        "id": str(record.id),
        **{name: content[name] for name in TemplateContent.model_fields if name in content},
        "revision": record.revision,
        "problems": list(record.problems),
        "created_at": record.created_at.isoformat().replace("+00:00", "Z"),
        "updated_at": record.updated_at.isoformat().replace("+00:00", "Z"),
    }


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
                broken("target_inactive", ("routes", index, "template_id"), _GONE)
                for index, route in enumerate(draft.content["routes"])
                if route["template_id"] in gone
            ]
        ) from None


def _known_number(content: TemplateContent, around: Surroundings) -> UUID | None:
    """A draft may name a number that does not exist; it stays in the document alone."""
    known = content.number_id is not None and content.number_id in (around.numbers or {})
    return _uuid(content.number_id) if known else None


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _change(editor: Editor, action: str, saved: TemplateRecord, before: TemplateRecord | None) -> Change:
    return Change(
        key_id=editor.key_id,
        action=action,
        resource="template",
        resource_id=saved.id,
        revision_before=before.revision if before else None,
        revision_after=saved.revision,
        data={
            "name": saved.name,
            "changed": _changed(before.content if before else {}, saved.content) if before else [],
        },
    )


def _uuid(text: object) -> UUID | None:
    try:
        return UUID(text) if isinstance(text, str) else None
    except ValueError:
        return None


__all__ = [
    "PRECHECKS",
    "Authoring",
    "Editor",
    "InvalidTemplate",
    "Precheck",
    "content_of",
    "no_other_orchestrator",
    "read_document",
    "shown",
]
