"""Texts: YAML or JSON as a plain JSON document that knows its lines, and documents as YAML.

YAML is read by its core schema (YAML 1.2, 10.3): `no`, `12:30` and `2026-01-31` are texts, `true`, `5` and
`null` are what they look like. Keys are texts. Anchors' aliases and tags are refused, so a short text is a
small document and nothing but data.
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
"""A template of 200 nodes is under 200 KiB."""

Form = Literal["yaml", "json"]

MAX_VALUES = 200_000
"""How many values YAML may hold: reading one costs a hundred times its length in memory."""

_DEPTH = MAX_DEPTH + 4  # a template's own levels, inside of a list of templates
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_BREAKS = re.compile("[\x85\u2028\u2029]")
_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class Unreadable(ValueError):
    """A text is not what it should be; ``line`` is where, None where that is not known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Text:
    """A document, and the line of each of its parts by JSON pointer (JSON is read without lines)."""

    document: Any
    lines: Mapping[str, int] = field(default_factory=dict)

    def line(self, place: str) -> int | None:
        """The line of a part; of the nearest one around it where there is no such part."""
        while place not in self.lines:
            if not place:
                return None
            place = place.rpartition("/")[0]
        return self.lines[place]


def read_text(data: bytes | str, form: Form = "yaml") -> Text:
    """The document in a text.

    Raises:
        Unreadable: it is too long, not of that form, or uses what is refused.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if len(raw) > MAX_BYTES:
        raise Unreadable(f"The text has {len(raw)} bytes; {MAX_BYTES} are allowed.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable("The text is not UTF-8.", raw[: error.start].count(b"\n") + 1) from None
    return _json(text) if form == "json" else _yaml(text)


def as_text(document: Any, form: Form = "yaml") -> str:
    """A document as people read it: members in their order, texts of several lines as such."""
    if form == "json":
        return json.dumps(document, ensure_ascii=False, indent=2) + "\n"
    return str(yaml.dump(document, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=1_000_000))


def _json(text: str) -> Text:
    try:
        return Text(json.loads(text, object_pairs_hook=_once))
    except json.JSONDecodeError as error:
        raise Unreadable(f"This is not JSON: {error.msg}.", error.lineno) from None
    except RecursionError:
        raise Unreadable(f"It is nested deeper than {_DEPTH} levels.") from None
    except ValueError as error:
        raise (
            error if isinstance(error, Unreadable) else Unreadable("A number has too many digits.")
        ) from None


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in pairs:
        if key in document:
            raise Unreadable(f"'{key}' is written twice in one object.")
        document[key] = value
    return document


def _yaml(text: str) -> Text:
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        told = " ".join(str(part) for part in (error.problem, error.context) if part)
        raise Unreadable(f"This is not YAML: {told}.", mark.line + 1 if mark else None) from None
    except yaml.YAMLError as error:
        raise Unreadable(f"This is not YAML: {' '.join(str(error).split())}.") from None
    return Text(builder.document, builder.lines)


@dataclass(slots=True)
class _Open:
    """A list or an object whose end has not come yet."""

    value: Any
    place: str
    key: str | None = None


class _Builder:
    """Makes a document of the parser's events, without recursion."""

    def __init__(self) -> None:
        self.document: Any = None
        self.lines: dict[str, int] = {}
        self._open: list[_Open] = []
        self._documents = 0

    def take(self, event: Any) -> None:
        """One event, in their order."""
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise Unreadable("References (`*name`) are not read: write the part out.", line)
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise Unreadable("One document is expected: write a list under `templates:`.", line)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
        elif isinstance(event, yaml.NodeEvent):
            self._node(event, line)

    def _node(self, event: Any, line: int) -> None:
        if len(self.lines) > MAX_VALUES:
            raise Unreadable(f"The text has more than {MAX_VALUES} values.", line)
        if event.tag is not None:
            raise Unreadable(f"Tags such as `{event.tag}` are not read: write plain values.", line)
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
                raise Unreadable(f"It is nested deeper than {_DEPTH} levels.", line)
            self._open.append(_Open(value, place))

    def _key(self, top: _Open, event: Any, line: int) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            raise Unreadable("A name of a member is expected here, not a list or an object.", line)
        top.key = str(event.value)
        place = top.place + pointer(top.key)
        if place in self.lines:
            first = self.lines[place]
            raise Unreadable(f"'{top.key}' is written twice, first in line {first}.", line)
        self.lines[place] = line

    def _put(self, top: _Open | None, value: Any, line: int) -> str:
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
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return _whole(text, line)
    if _FLOAT.fullmatch(text) or _SPECIAL.fullmatch(text):
        return float(
            text.replace(".inf", "inf").replace(".Inf", "inf").replace(".INF", "inf").lstrip(".")
            if _SPECIAL.fullmatch(text)
            else text
        )
    return text


def _whole(text: str, line: int) -> int:
    try:
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    except ValueError:
        raise Unreadable("A number has too many digits.", line) from None


class _Dumper(yaml.SafeDumper):  # the one in C escapes emoji
    """Writes what any reader of YAML, old or new, reads as the same values."""

    def ignore_aliases(self, data: Any) -> bool:
        """Nothing is written as a reference."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Lists stand further in than the member they belong to."""
        super().increase_indent(flow, False)


def _text(dumper: Any, text: str) -> Any:
    style = "|" if "\n" in text else None
    if _BREAKS.search(text):  # a reader would take them for ends of lines, unless they are escaped
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _sequence(dumper: Any, items: Sequence[Any]) -> Any:
    return dumper.represent_list(items)


def _resolvers() -> Iterator[tuple[str, re.Pattern[str], list[str]]]:
    """What the core schema takes for a number and YAML 1.1 does not: such texts are to be quoted too."""
    yield "tag:yaml.org,2002:int", re.compile(f"^(?:{_INT.pattern})$"), list("-+0123456789")
    yield "tag:yaml.org,2002:float", re.compile(f"^(?:{_FLOAT.pattern})$"), list("-+0123456789.")


_Dumper.add_representer(str, _text)
_Dumper.add_representer(tuple, _sequence)
for _tag, _pattern, _first in _resolvers():
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)
