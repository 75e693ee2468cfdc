"""The templates of a set that is imported: what each was, what it becomes, and when it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

from db.audit import Change
from db.errors import TargetsUnavailable
from db.templates import TemplateDraft, TemplateRecord
from templates.check import Problem
from templates.check.rules import problem_for
from templates.sets import CheckedTemplate
from voicebot.authoring.editor import Editor

_GONE = "The template that this route leads to has just ceased to be an active agent."

Action = Literal["created", "updated", "unchanged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of a template; ``template_id`` is None for one that a dry run would create."""

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
    """A template of the set, ready to be written. ``before`` of None: it is new."""

    place: str
    checked: CheckedTemplate
    before: TemplateRecord | None
    draft: TemplateDraft

    @property
    def id(self) -> UUID:
        """The template's id, of a new one too."""
        return UUID(self.checked.template_id)

    @property
    def action(self) -> Action:
        """What is done to it."""
        if self.before is None:
            return "created"
        before, draft = self.before, self.draft
        same = (before.status, before.number_id) == (draft.status, draft.number_id) and not draft.changed
        return "unchanged" if same else "updated"

    @property
    def gives_number_back(self) -> bool:
        """Whether a number that it answers so far is to be free for others of the set."""
        return self.before is not None and self.before.number_id not in (None, self.draft.number_id)

    @property
    def turn(self) -> tuple[int, bool]:
        """When it is written: who is routed to before who routes there, who ceases to be an agent last."""
        is_agent = self.draft.kind == "agent"
        if is_agent and self.draft.status == "active":
            return 0, False
        was_agent = self.before is not None and (self.before.kind, self.before.status) == ("agent", "active")
        if was_agent:
            return 3, not is_agent
        return (1 if self.draft.status == "draft" else 2), not is_agent

    def pointer(self, inside: str) -> str:
        """A place in the template of the API, as a place in what was sent."""
        return self.place + self.checked.original_pointer(inside)

    def in_set(self, problems: Sequence[Problem]) -> list[Problem]:
        """Problems of the template, with pointers into what was sent."""
        return [replace(each, pointer=self.place + each.pointer) for each in problems]

    def gone(self, error: TargetsUnavailable) -> list[Problem]:
        """Targets lost to a race, told as the check would have told it."""
        lost = {str(template_id) for template_id in error.template_ids}
        found = [
            problem_for("target_inactive", ("routes", index, "template_id"), _GONE)
            for index, route in enumerate(self.draft.content["routes"])
            if route["template_id"] in lost
        ]
        return [replace(each, pointer=self.pointer(each.pointer)) for each in found]

    def change(self, editor: Editor, saved: TemplateRecord) -> Change:
        """The line of the audit list."""
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
        """What became of it."""
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
