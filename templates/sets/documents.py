"""Reading YAML and JSON texts as JSON documents with line numbers, and writing documents as YAML or JSON.

YAML is read by the core schema (YAML 1.2, 10.3): `no`, `12:30` and `2026-01-31` are strings; `true`, `5` and
`null` have their types. Keys are strings. Aliases and tags are refused: aliases could expand a short text to
a large document, and tags could stand for values that are not JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from templates.problem import pointer
from templates.storable import MAX_DEPTH

MAX_BYTES = 2 * 1024 * 1024
"""Maximum size of a text in bytes. A template of 200 nodes is smaller than 200 KiB."""

FileFormat = Literal["yaml", "json"]

MAX_VALUES = 50_000
"""Maximum number of values in a YAML text: a value needs about 100 times its length in memory."""

MAX_POINTER = 2000
"""Maximum number of characters of the JSON pointer of a value in a YAML text: each value keeps its own."""

_DEPTH = MAX_DEPTH + 4  # levels of a template plus those of the list of templates around it
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_BREAKS = re.compile("[\x85\u2028\u2029]")
_KEYWORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class UnreadableText(ValueError):
    """A text cannot be read. ``line`` is the line of the problem, from 1, or None if unknown."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class ParsedText:
    """A document, and JSON pointer → line of each of its values (empty for JSON texts)."""

    document: Any
    lines: Mapping[str, int] = field(default_factory=dict)

    def line(self, place: str) -> int | None:
        """The line of a value, or of the nearest enclosing value that has a line; None if unknown."""
        while place not in self.lines:
            if not place:
                return None
            place = place.rpartition("/")[0]
        return self.lines[place]


def read_text(data: bytes | str, form: FileFormat = "yaml") -> ParsedText:
    """Read the document in a text (UTF-8).

    Raises:
        UnreadableText: the text is longer than ``MAX_BYTES``, is not valid, or uses a refused feature.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if len(raw) > MAX_BYTES:
        raise UnreadableText(f"The text has {len(raw)} bytes; {MAX_BYTES} are allowed.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableText("The text is not UTF-8.", raw[: error.start].count(b"\n") + 1) from None
    return _json(text) if form == "json" else _yaml(text)


def dump_text(document: Any, form: FileFormat = "yaml") -> str:
    """Write a document as text; fields keep their order, and multi-line strings are YAML block scalars."""
    if form == "json":
        return json.dumps(document, ensure_ascii=False, indent=2) + "\n"
    return str(yaml.dump(document, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=1_000_000))


def _json(text: str) -> ParsedText:
    try:
        return ParsedText(json.loads(text, object_pairs_hook=_without_duplicate_keys))
    except json.JSONDecodeError as error:
        raise UnreadableText(f"This is not JSON: {error.msg}.", error.lineno) from None
    except RecursionError:
        raise UnreadableText(f"The document is nested deeper than {_DEPTH} levels.") from None
    except ValueError as error:
        raise (
            error if isinstance(error, UnreadableText) else UnreadableText("A number has too many digits.")
        ) from None


def _without_duplicate_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in pairs:
        if key in document:
            raise UnreadableText(f"The key '{key[:200]}' is used twice in one object.")
        document[key] = value
    return document


def _yaml(text: str) -> ParsedText:
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.add_event(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        detail = " ".join(str(part) for part in (error.problem, error.context) if part)
        raise UnreadableText(f"This is not YAML: {detail}.", mark.line + 1 if mark else None) from None
    except yaml.YAMLError as error:
        raise UnreadableText(f"This is not YAML: {' '.join(str(error).split())}.") from None
    return ParsedText(builder.document, builder.lines)


@dataclass(slots=True)
class _OpenCollection:
    """A list or an object whose end has not been parsed yet."""

    value: Any
    place: str
    key: str | None = None


class _Builder:
    """Builds a document from parser events, without recursion."""

    def __init__(self) -> None:
        self.document: Any = None
        self.lines: dict[str, int] = {}
        self._open: list[_OpenCollection] = []
        self._documents = 0

    def add_event(self, event: Any) -> None:
        """Process the next event."""
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise UnreadableText("Aliases (`*name`) are not supported: repeat the value.", line)
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise UnreadableText(
                    "The text contains more than one document: write a list under `templates:`.", line
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
        elif isinstance(event, yaml.NodeEvent):
            self._node(event, line)

    def _node(self, event: Any, line: int) -> None:
        if len(self.lines) > MAX_VALUES:
            raise UnreadableText(f"The text has more than {MAX_VALUES} values.", line)
        if event.tag is not None:
            raise UnreadableText(f"Tags such as `{event.tag}` are not supported: write plain values.", line)
        top = self._open[-1] if self._open else None
        if top is not None and isinstance(top.value, dict) and top.key is None:
            self._key(top, event, line)
            return
        value = _scalar(event, line) if isinstance(event, yaml.ScalarEvent) else None
        if value is None and isinstance(event, yaml.CollectionStartEvent):
            value = {} if isinstance(event, yaml.MappingStartEvent) else []
        place = self._put(top, value, line)
        if isinstance(event, yaml.CollectionStartEvent):
            if len(self._open) >= _DEPTH:
                raise UnreadableText(f"The document is nested deeper than {_DEPTH} levels.", line)
            self._open.append(_OpenCollection(value, place))

    def _key(self, top: _OpenCollection, event: Any, line: int) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            raise UnreadableText("A key must be a string, not a list or an object.", line)
        top.key = str(event.value)
        place = top.place + pointer(top.key)
        if len(place) > MAX_POINTER:
            raise UnreadableText(f"The keys down to here have more than {MAX_POINTER} characters.", line)
        if place in self.lines:
            first = self.lines[place]
            raise UnreadableText(f"The key '{top.key[:200]}' is used twice, first in line {first}.", line)
        self.lines[place] = line

    def _put(self, top: _OpenCollection | None, value: Any, line: int) -> str:
        if top is None:
            self.document = value
            place = ""
        elif top.key is not None:
            top.value[top.key] = value
            place, top.key = top.place + pointer(top.key), None
        else:
            place = top.place + pointer(len(top.value))
            top.value.append(value)
        self.lines.setdefault(place, line)
        return place


def _scalar(event: Any, line: int) -> Any:
    text = str(event.value)
    if not event.implicit[0]:  # quoted, or a block
        return text
    if text in _KEYWORDS:
        return _KEYWORDS[text]
    if _INT.fullmatch(text):
        return _parse_int(text, line)
    if _FLOAT.fullmatch(text) or _SPECIAL.fullmatch(text):
        return float(
            text.replace(".inf", "inf").replace(".Inf", "inf").replace(".INF", "inf").lstrip(".")
            if _SPECIAL.fullmatch(text)
            else text
        )
    return text


def _parse_int(text: str, line: int) -> int:
    try:
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    except ValueError:
        raise UnreadableText("A number has too many digits.", line) from None


class _Dumper(yaml.SafeDumper):  # not CSafeDumper, which escapes emoji
    """Writes YAML that readers of YAML 1.1 and 1.2 read as the same values."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write no aliases."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists below their key."""
        super().increase_indent(flow, False)


def _text(dumper: Any, text: str) -> Any:
    style = "|" if "\n" in text else None
    if _BREAKS.search(text):  # YAML 1.1 readers treat these as line breaks unless they are escaped
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _sequence(dumper: Any, items: Sequence[Any]) -> Any:
    return dumper.represent_list(items)


def _resolvers() -> Iterator[tuple[str, re.Pattern[str], list[str]]]:
    """Patterns of strings that YAML 1.2 reads as numbers and YAML 1.1 does not: they must be quoted."""
    yield "tag:yaml.org,2002:int", re.compile(f"^(?:{_INT.pattern})$"), list("-+0123456789")
    yield "tag:yaml.org,2002:float", re.compile(f"^(?:{_FLOAT.pattern})$"), list("-+0123456789.")


_Dumper.add_representer(str, _text)
_Dumper.add_representer(tuple, _sequence)
for _tag, _pattern, _first in _resolvers():
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)
