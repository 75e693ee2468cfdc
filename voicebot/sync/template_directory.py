"""A directory of template files: the file of each template, and changes of the files."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from templates.sets import FileTemplate, canonical, dump_text, name_of, without_server_fields
from voicebot.authoring.files import SUFFIXES, SourceFile, read_files
from voicebot.sync.state_file import write

SCHEMA = ".schema.json"
_HEADER = f"# yaml-language-server: $schema={SCHEMA}\n"


class TemplateDirectory:
    """A directory of template files.

    Attributes:
        path: the directory.
        documents: the templates by name, in canonical form where they are valid.
    """

    def __init__(self, path: Path) -> None:
        """Read the files.

        Raises:
            BadFiles: a file cannot be read.
        """
        self.path = path
        self.documents: dict[str, Mapping[str, Any]] = {}
        self._files: dict[Path, list[SourceFile]] = {}
        for each in read_files([path]) if path.is_dir() else ():
            self._add(each)

    @property
    def sources(self) -> list[SourceFile]:
        """All templates as they are written in the files."""
        return [each for inside in self._files.values() for each in inside]

    def file_of(self, name: str) -> Path | None:
        """The file of a template; None if there is none."""
        return next((each.path for each in self.sources if name_of(each.document) == name), None)

    def put(self, name: str, document: Mapping[str, Any], file: str | None) -> Path:
        """Write a template to its file; a new one to ``file``, or to a file with the template's name."""
        path = self.file_of(name)
        if path is not None:
            self._rewrite(path, {name: document})
            return path
        path = self.path / (file or "")
        if path.suffix not in SUFFIXES or path.exists():
            path = self.path / self._unused_file_name(name)
        self.path.mkdir(parents=True, exist_ok=True)
        write(path, _text(path, document, _HEADER))
        self._reload(path)
        return path

    def remove(self, name: str) -> None:
        """Remove a template, and its file if the file has no other one."""
        path = self.file_of(name)
        if path is None:
            return
        if len(self._files[path]) == 1:
            path.unlink()
            self._forget(path)
        else:
            self._rewrite(path, {name: None})

    def put_schema(self, schema: Mapping[str, Any]) -> None:
        """Write the JSON Schema to which the files refer, for editors."""
        self.path.mkdir(parents=True, exist_ok=True)
        write(self.path / SCHEMA, json.dumps(schema, ensure_ascii=False, indent=1) + "\n")

    def _rewrite(self, path: Path, changes: Mapping[str, Mapping[str, Any] | None]) -> None:
        inside = self._files[path]
        documents = [changes.get(name_of(each.document), each.document) for each in inside]
        kept = [each for each in documents if each is not None]
        is_list = bool(inside[0].place)
        write(path, _text(path, {"templates": kept} if is_list else kept[0], _leading_comments(path)))
        self._reload(path)

    def _reload(self, path: Path) -> None:
        self._forget(path)
        for each in read_files([path]):
            self._add(each)

    def _forget(self, path: Path) -> None:
        for each in self._files.pop(path, ()):
            self.documents.pop(name_of(each.document), None)

    def _add(self, source: SourceFile) -> None:
        self._files.setdefault(source.path, []).append(source)
        if name := name_of(source.document):
            self.documents.setdefault(name, canonical_or_raw(source.document))

    def _unused_file_name(self, name: str) -> str:
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
        slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:80] or "template"
        numbered = (f"{slug}{f'-{number}' if number > 1 else ''}.yaml" for number in range(1, 10_000))
        return next(file for file in numbered if not (self.path / file).exists())


def canonical_or_raw(document: Any) -> Mapping[str, Any]:
    """A document in canonical form; unchanged if it is not a valid template."""
    try:
        return canonical(FileTemplate.model_validate(without_server_fields(document)))
    except ValidationError:
        return dict(document) if isinstance(document, Mapping) else {"template": document}


def _text(path: Path, document: Mapping[str, Any], comments: str) -> str:
    if path.suffix == ".json":
        return dump_text(document, "json")
    return comments + dump_text(document)


def _leading_comments(path: Path) -> str:
    """The comments at the start of a file."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    count = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "".join(lines[:count])
