"""History: a template as it was, taken up again, and a template as the beginning of another one."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import count

from db import templates
from db.errors import NameTaken
from db.pool import Database
from db.revisions import RevisionRecord
from db.templates import TemplateRecord
from templates.bounds import NAME_LENGTH
from voicebot.authoring.editor import Editor
from voicebot.authoring.saving import AuditAction, Authoring

_ATTEMPTS = 5
_SUFFIX = re.compile(r" \(copy(?: [0-9]+)?\)$")
_LONGEST_SUFFIX = len(" (copy 999999)")


async def restore(
    authoring: Authoring, editor: Editor, before: TemplateRecord, kept: RevisionRecord
) -> TemplateRecord:
    """Save what a template was as its newest revision. Whether it is active stays as it is now.

    Secrets come back as they were then, with the hosts that they were for.

    Raises:
        InvalidTemplate, NameTaken, OrchestratorExists, RevisionConflict, TemplateInUse: as for
            ``Authoring.replace``.
    """
    deed = AuditAction(action="restore", data={"restored": kept.revision}, of_stored=True)
    return await authoring.replace(editor, before, {**kept.content, "status": before.status}, deed=deed)


async def duplicate(
    authoring: Authoring, database: Database, editor: Editor, source: TemplateRecord, name: str | None
) -> TemplateRecord:
    """Save a draft that is like a template, secrets included.

    Args:
        authoring: what saves.
        database: where names are looked up.
        editor: who asks for it.
        source: what to copy.
        name: None for the source's with ``(copy)``, or ``(copy 2)`` and so on where that is taken.

    Raises:
        InvalidTemplate: the name cannot be one.
        NameTaken: the name is another template's.
    """
    deed = AuditAction(action="duplicate", data={"of": str(source.id)}, of_stored=True)
    for attempt in range(_ATTEMPTS):
        chosen = name
        if chosen is None:
            stem = stem_of(source.name)
            chosen = free_name(stem, await templates.names(database, editor.account_id, beginning=stem))
        try:
            document = {**source.content, "name": chosen, "status": "draft"}
            return await authoring.create(editor, document, deed=deed)
        except NameTaken:
            # Somebody else copies the same template at this moment.
            if name is not None or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def stem_of(name: str) -> str:
    """A name without what marks a copy, short enough to mark it again."""
    return _SUFFIX.sub("", name)[: NAME_LENGTH - _LONGEST_SUFFIX].rstrip()


def free_name(stem: str, taken: Collection[str]) -> str:
    """The first name of a copy that is free."""
    numbered = (f"{stem} (copy {number})" for number in count(2))
    first = f"{stem} (copy)"
    return first if first not in taken else next(name for name in numbered if name not in taken)
