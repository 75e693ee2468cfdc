"""Templates in files, so that they can be tried before they are saved anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from db.errors import NotFound
from db.revisions import TemplateSnapshot
from templates.check import check_document
from voicebot.call.text.library import UTC
from voicebot.trial.script import BadFile, read_yaml

ACCOUNT = UUID("00000000-0000-7000-8000-000000000000")
"""Files belong to no account."""

_SUFFIXES = (".yaml", ".yml", ".json")


class FileLibrary:
    """A set of templates; routes name their targets by template name, or by the name of their file."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read files, or all files of folders.

        Raises:
            BadFile: one cannot be read, holds no template, or one of a shape that no template has.
        """
        self._snapshots: dict[UUID, TemplateSnapshot] = {}
        self._names: dict[str, UUID] = {}
        documents = [
            (path, document) for given in paths for path in _files(given) for document in _documents(path)
        ]
        for path, document in documents:
            template_id = uuid5(ACCOUNT, document["name"])
            if document["name"] in self._names:
                raise BadFile(path, [f"there are two templates of the name {document['name']!r}"])
            self._names[document["name"]] = template_id
            self._names.setdefault(path.stem, template_id)
        for path, document in documents:
            self._keep(path, self._with_ids(document))

    def find(self, name: str) -> UUID:
        """The id of a template, by its name.

        Raises:
            NotFound: there is none.
        """
        if name not in self._names:
            raise NotFound("template", name)
        return self._names[name]

    async def answering(self, template_id: UUID) -> TemplateSnapshot:
        """The template that the call is with.

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

    def _with_ids(self, document: Mapping[str, Any]) -> dict[str, Any]:
        routes = document.get("routes") or []
        if not isinstance(routes, list) or not all(isinstance(route, dict) for route in routes):
            return dict(document)  # the check says so
        return {**document, "routes": [self._route(route) for route in routes]}

    def _route(self, route: Mapping[str, Any]) -> dict[str, Any]:
        named = str(route.get("template_id", ""))
        target = self._names.get(named) or uuid5(ACCOUNT, named)
        return {**route, "template_id": str(target)}

    def _keep(self, path: Path, document: Mapping[str, Any]) -> None:
        content, report = check_document(document)
        if content is None:
            raise BadFile(path, [f"{fault.pointer}: {fault.message}" for fault in report.errors])
        template_id = self._names[content.name]
        self._snapshots[template_id] = TemplateSnapshot(
            id=template_id,
            account_id=ACCOUNT,
            name=content.name,
            kind=content.kind,
            status=content.status,
            revision=1,
            content=content.model_dump(mode="json"),
        )


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    yield from (each for each in sorted(path.iterdir()) if each.suffix in _SUFFIXES)


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    """The templates in a file: one, or a list under ``templates``."""
    document = read_yaml(path)
    templates = document.get("templates") if isinstance(document, dict) else document
    for each in templates if isinstance(templates, list) else [document]:
        if not isinstance(each, dict) or not isinstance(each.get("name"), str):
            raise BadFile(path, ["a template with a 'name' is expected, or a list of them under 'templates'"])
        yield each
