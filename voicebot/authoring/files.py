"""Template files: finding and reading them, and locating faults in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from templates.problem import Problem
from templates.sets import MAX_BYTES, ParsedText, UnreadableText, members, read_text

SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault of a file."""

    path: Path
    line: int | None
    pointer: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        """One line that begins with file and line number, as editors expect it."""
        place = str(self.path) if self.line is None else f"{self.path}:{self.line}"
        return ": ".join(
            part for part in (place, self.pointer, f"{self.message} {self.remedy}".strip()) if part
        )


class BadFiles(ValueError):
    """Files are not valid; every fault says where and what to do."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A template in a file.

    Attributes:
        path: the file.
        place: pointer of the template in the file; "" where it is the file's only one.
        document: any JSON.
        text: the text of the file.
    """

    path: Path
    place: str
    document: Any
    text: ParsedText

    def fault(self, problem: Problem) -> Fault:
        """A problem of the template as a fault of the file."""
        pointer = self.place + problem.pointer
        return Fault(
            path=self.path,
            line=self.text.line(pointer),
            pointer=pointer,
            message=problem.message,
            remedy=problem.remedy,
        )


def read_files(paths: Sequence[Path]) -> list[SourceFile]:
    """The templates in files and directories, which together are a set.

    Of a directory all template files are read, except those in subdirectories, hidden files and scripts of
    conversations.

    Raises:
        BadFiles: some cannot be read, or contain no template.
    """
    found: list[SourceFile] = []
    faults: list[Fault] = []
    files = dict.fromkeys((each, path.is_dir()) for path in paths for each in _files(path))
    for path, of_directory in files:
        try:
            found += _templates(path, of_directory)
        except BadFiles as error:
            faults += error.faults
    if faults:
        raise BadFiles(faults)
    return found


def read_some(paths: Sequence[Path]) -> list[SourceFile]:
    """The templates in files and directories, of which there must be one at least.

    Raises:
        BadFiles: as ``read_files``, or there is no template.
    """
    found = read_files(paths)
    if not found:
        kinds = ", ".join(SUFFIXES)
        message = f"No template file is here (files that end in {kinds}, not in subdirectories)"
        raise BadFiles([_unreadable(path, message) for path in paths])
    return found


def read_file(path: Path) -> ParsedText:
    """The document in a file.

    Raises:
        BadFiles: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        return read_text(data, "json" if path.suffix == ".json" else "yaml")
    except OSError as error:
        raise BadFiles([_unreadable(path, error.strerror or "It cannot be read")]) from None
    except UnreadableText as error:
        raise BadFiles([_unreadable(path, str(error), error.line)]) from None


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for each in sorted(path.iterdir()):
        if each.suffix in SUFFIXES and not each.name.startswith(".") and each.is_file():
            yield each


def _templates(path: Path, of_directory: bool) -> list[SourceFile]:
    text = read_file(path)
    if isinstance(text.document, dict) and "conversations" in text.document:
        if of_directory:
            return []
        raise BadFiles([_unreadable(path, "This is a script of conversations: see `voicebot test`")])
    if not isinstance(text.document, dict):
        message = "A template with a `name` is expected, or a list of them under `templates`"
        raise BadFiles([_unreadable(path, message)])
    return [
        SourceFile(path=path, place=place, document=each, text=text) for place, each in members(text.document)
    ]


def _unreadable(path: Path, message: str, line: int | None = None) -> Fault:
    return Fault(path=path, line=line, pointer="", message=f"{message.removesuffix('.')}.")
