"""Templates in files, for conversations with templates that are not saved in an account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

from db.errors import NotFound
from db.revisions import TemplateSnapshot
from templates.model import TemplateContent
from templates.sets import check_set
from voicebot.authoring.files import BadFiles, read_some
from voicebot.call.text.library import UTC
from voicebot.simulate.unknown_template import UnknownTemplate

ACCOUNT = UUID("00000000-0000-7000-8000-000000000000")
"""The account id of templates in files, which belong to no account."""


class FileLibrary:
    """A set of templates; routes name their targets."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read files, or all files of directories.

        Raises:
            BadFiles: a file cannot be read or has no valid template, or a route names no template of the
                set.
        """
        written = read_some(paths)
        checked = check_set([each.document for each in written])
        faults = [
            file.fault(problem)
            for file, each in zip(written, checked, strict=True)
            for problem in (each.report.errors if each.content is None else each.unknown)
        ]
        if faults:
            raise BadFiles(faults)
        self._snapshots = {
            UUID(each.template_id): _snapshot(UUID(each.template_id), each.content)
            for each in checked
            if each.content is not None
        }
        self._names = {snapshot.name: each for each, snapshot in self._snapshots.items()}

    def find(self, name: str) -> UUID:
        """The id of a template, by its name.

        Raises:
            UnknownTemplate: there is none.
        """
        if name.strip() not in self._names:
            raise UnknownTemplate(name, self._names)
        return self._names[name.strip()]

    async def answering(self, template_id: UUID) -> TemplateSnapshot:
        """The template that has the call.

        Raises:
            NotFound: there is none.
        """
        if template_id not in self._snapshots:
            raise NotFound("template", template_id)
        return self._snapshots[template_id]

    async def targets(self, template_ids: Sequence[UUID]) -> Mapping[UUID, TemplateSnapshot]:
        """Those of the templates that exist."""
        return {each: self._snapshots[each] for each in template_ids if each in self._snapshots}

    async def time_zone(self, snapshot: TemplateSnapshot) -> ZoneInfo:
        """UTC: files have no numbers."""
        return UTC


def _snapshot(template_id: UUID, content: TemplateContent) -> TemplateSnapshot:
    return TemplateSnapshot(
        id=template_id,
        account_id=ACCOUNT,
        name=content.name,
        kind=content.kind,
        status=content.status,
        revision=1,
        content=content.model_dump(mode="json"),
    )
