"""Restoring a revision of a template, and duplicating a template."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import count

from db import templates
from db.errors import NameTaken
from db.revisions import RevisionRecord
from db.templates import TemplateRecord
from templates.bounds import NAME_LENGTH
from voicebot.authoring.saving import AuditAction, Authoring, Editor

_ATTEMPTS = 5
_SUFFIX = re.compile(r" \(copy(?: [0-9]+)?\)$")
_LONGEST_SUFFIX = len(" (copy 999999)")


async def restore(
    authoring: Authoring, editor: Editor, before: TemplateRecord, kept: RevisionRecord
) -> TemplateRecord:
    """Save an older revision of a template as its newest one. The template keeps its present status.

    Secrets are those of the older revision, as are the hosts that they belong to.

    Raises:
        InvalidTemplate, NameTaken, OrchestratorExists, RevisionConflict, TemplateInUse: as for
            ``Authoring.replace``.
    """
    audit_action = AuditAction(action="restore", data={"restored": kept.revision}, is_stored=True)
    document = {**kept.content, "status": before.status}
    return await authoring.replace(editor, before, document, audit_action=audit_action)


async def duplicate(
    authoring: Authoring, editor: Editor, source: TemplateRecord, name: str | None
) -> TemplateRecord:
    """Save a copy of a template as a draft, secrets included.

    Args:
        authoring: saves it.
        editor: who asks for it.
        source: the template to copy.
        name: the copy's name; None for the source's with ``(copy)``, ``(copy 2)`` and so on.

    Raises:
        InvalidTemplate: the name is not valid.
        NameTaken: another template has the name.
    """
    audit_action = AuditAction(action="duplicate", data={"of": str(source.id)}, is_stored=True)
    for attempt in range(_ATTEMPTS):
        chosen = name
        if chosen is None:
            stem = stem_of(source.name)
            taken = await templates.names(authoring.database, editor.account_id, beginning=stem)
            chosen = free_name(stem, taken)
        try:
            document = {**source.content, "name": chosen, "status": "draft"}
            return await authoring.create(editor, document, audit_action=audit_action)
        except NameTaken:
            # Another request is copying the same template.
            if name is not None or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def stem_of(name: str) -> str:
    """A name without the suffix of a copy, short enough to take one again."""
    return _SUFFIX.sub("", name)[: NAME_LENGTH - _LONGEST_SUFFIX].rstrip()


def free_name(stem: str, taken: Collection[str]) -> str:
    """The first name for a copy that no template has."""
    numbered = (f"{stem} (copy {number})" for number in count(2))
    first = f"{stem} (copy)"
    return first if first not in taken else next(name for name in numbered if name not in taken)
