"""The templates of an imported set: the stored and the new version of each, and the order of writing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

from db.audit import Change
from db.errors import TargetsUnavailable
from db.templates import TemplateDraft, TemplateRecord
from templates.check import Problem
from templates.sets import CheckedTemplate
from voicebot.authoring.saving import Editor, lost_targets

Action = Literal["created", "updated", "unchanged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The result for one template; ``template_id`` is None for one that a dry run would create."""

    name: str
    template_id: UUID | None
    action: Action
    revision: int
    status: str
    changed: Sequence[str]
    problems: Sequence[Problem]
    warnings: Sequence[Problem]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A template of the set, ready to be written. ``before`` is None for a new one."""

    place: str
    checked: CheckedTemplate
    before: TemplateRecord | None
    draft: TemplateDraft

    @property
    def id(self) -> UUID:
        """The template's id; a new one has it already."""
        return UUID(self.checked.template_id)

    @property
    def action(self) -> Action:
        """What the import does to it."""
        if self.before is None:
            return "created"
        before, draft = self.before, self.draft
        same = (before.status, before.number_id) == (draft.status, draft.number_id) and not draft.changed
        return "unchanged" if same else "updated"

    @property
    def releases_number(self) -> bool:
        """Whether it releases the number that it answers, so that another template of the set may take it."""
        return self.before is not None and self.before.number_id not in (None, self.draft.number_id)

    @property
    def write_order(self) -> tuple[int, bool]:
        """Sort key: route targets before the templates that route to them, former agents last."""
        is_agent = self.draft.kind == "agent"
        if is_agent and self.draft.status == "active":
            return 0, False
        was_agent = self.before is not None and (self.before.kind, self.before.status) == ("agent", "active")
        if was_agent:
            return 3, not is_agent
        return (1 if self.draft.status == "draft" else 2), not is_agent

    def pointer(self, inside: str) -> str:
        """A pointer into the template of the API, as a pointer into the request's body."""
        return self.place + self.checked.original_pointer(inside)

    def in_set(self, problems: Sequence[Problem]) -> list[Problem]:
        """Problems of the template, with pointers into the request's body."""
        return [replace(each, pointer=self.place + each.pointer) for each in problems]

    def lost_targets(self, error: TargetsUnavailable) -> list[Problem]:
        """Targets that another request has just deactivated, with pointers into the request's body."""
        return [replace(each, pointer=self.pointer(each.pointer)) for each in lost_targets(error, self.draft)]

    def change(self, editor: Editor, saved: TemplateRecord) -> Change:
        """The entry of the audit log."""
        return Change(
            key_id=editor.key_id,
            action="import",
            resource="template",
            resource_id=saved.id,
            revision_before=self.before.revision if self.before else None,
            revision_after=saved.revision,
            data={"name": saved.name, "changed": list(self.draft.changed) if self.before else []},
        )

    def imported(self, *, dry_run: bool) -> Imported:
        """The result."""
        revision = self.before.revision if self.before else 0
        return Imported(
            name=self.draft.name,
            template_id=None if self.before is None and dry_run else self.id,
            action=self.action,
            revision=revision if self.action == "unchanged" else revision + 1,
            status=self.draft.status,
            changed=self.draft.changed if self.before else [],
            problems=self.checked.report.errors,
            warnings=self.checked.report.warnings,
        )
