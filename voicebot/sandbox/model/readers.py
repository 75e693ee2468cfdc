"""Reading one argument from what was said: a figure, a date, a name, a choice, or somebody's own words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voicebot.sandbox.model.figures import Figure, figures, spoken_words
from voicebot.sandbox.model.words import EMPTY, alike, stem, stems, tokens, touches

Schema = Mapping[str, Any]

_DAY = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
_MONTH = "january|february|march|april|may|june|july|august|september|october|november|december"
_NUMBER = r"[\w-]+"
_ORDINAL = r"(?:\d{1,2}(?:st|nd|rd|th)?|(?:\w+[ -])?(?:first|second|third|\w+th))"
_DATE = re.compile(
    rf"\d{{4}}-\d{{2}}-\d{{2}}|(?:(?:next|this|coming)\s+)?\b(?:{_DAY})\b|\b(?:today|tomorrow|tonight)\b"
    rf"|\b(?:{_MONTH})\s+(?:the\s+)?{_NUMBER}(?:,?\s+\d{{4}})?"
    rf"|(?:the\s+)?\b{_ORDINAL}\s+(?:of\s+)?(?:{_MONTH})\b(?:,?\s+\d{{4}})?",
    re.IGNORECASE,
)
_WHICH_DAY = re.compile(r"\s*(?:what|which) (?:day|date)\b", re.IGNORECASE)
_HOUR = r"(?:\d{1,2}(?::\d{2})?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)"
_MINUTES = r"(?:\s+(?:fifteen|thirty|forty[ -]five))?"
_HALF = r"\s?(?:[ap]\.?m\b\.?|o'?\s?clock)"
_TIME = re.compile(
    rf"\b(?:half past|quarter (?:past|to))\s+{_HOUR}(?:{_HALF})?|\b{_HOUR}{_MINUTES}{_HALF}"
    rf"|\b(?:noon|midnight)\b|(?<=\bat )(?:about |around )?{_HOUR}{_MINUTES}\b|\b\d{{1,2}}:\d{{2}}\b",
    re.IGNORECASE,
)
_NAME = re.compile(
    r"\b(?:my name is|my name's|the name is|the name's|name is|name of|this is|i am|i'm|call me)\s+"
    r"((?:[^\W\d_][\w'’-]*\s*){1,3})",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_YES = frozenset({"yes", "yeah", "yep", "correct", "right", "sure", "exactly", "absolutely"})
_NO = frozenset({"no", "nope", "not", "never"})
_FREE = frozenset(
    {"reason", "message", "note", "summary", "description", "detail", "comment", "question", "query", "text",
     "request", "problem", "issue", "complaint", "feedback", "topic", "subject", "wish", "word"}
)  # fmt: skip
_DIGITS = frozenset(
    {"number", "no", "id", "code", "digits", "digit", "pin", "phone", "reference", "zip", "postcode",
     "account"}
)  # fmt: skip
_LONGEST_NAME = 4
_FILLERS = EMPTY | {"uh", "um", "er", "well", "yes", "no", "name", "under", "speaking", "here", "calling"}


@dataclass(slots=True)
class Search:
    """One utterance, of which each figure and each date may be used once."""

    text: str
    asked: str
    about: tuple[str, ...] = ()
    used: set[int] = field(default_factory=set)
    dates: set[str] = field(default_factory=set)

    def asks(self, name: str) -> bool:
        """Tell whether the assistant had just asked for this argument."""
        wanted = stems(name.replace("_", " ")) or tuple(map(stem, tokens(name.replace("_", " "))))
        there = [stem(token) for token in tokens(self.asked)]
        return "?" in self.asked and all(touches(word, there) for word in wanted)

    def free(self) -> list[Figure]:
        """The figures that no other argument has taken."""
        return [figure for figure in figures(self.text) if figure.start not in self.used]

    def use(self, start: int, end: int) -> None:
        """Take the figures between two places of the text: they belong to a date or a time."""
        before, taken = len(spoken_words(self.text[:start])), len(spoken_words(self.text[start:end]))
        self.used.update(range(before, before + taken))


def kind_of(name: str, schema: Schema) -> str:
    """Tell what an argument is, by its schema first and its name next."""
    if schema.get("enum"):
        return "choice"
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return "number"
    if kind in ("boolean", "array", "object"):
        return str(kind)
    own = [stem(token) for token in tokens(name.replace("_", " "))]
    for name_of_kind, stems_of_kind in _BY_NAME:
        if schema.get("format") == name_of_kind or any(word in stems_of_kind for word in own):
            return name_of_kind
    told = {stem(token) for token in tokens(str(schema.get("description", "")))}
    return "digits" if told & {stem("digit"), stem("digits")} else "phrase"


def _stemmed(words: Sequence[str] | frozenset[str]) -> frozenset[str]:
    return frozenset(stem(word) for word in words)


_BY_NAME: tuple[tuple[str, frozenset[str]], ...] = (
    ("email", _stemmed(["email"])),
    ("date", _stemmed(["date", "day", "weekday"])),
    ("time", _stemmed(["time", "hour"])),
    ("digits", _stemmed(_DIGITS)),
    ("name", _stemmed(["name", "surname"])),
    ("free", _stemmed(_FREE)),
)


def _choice(_name: str, schema: Schema, search: Search) -> Any:
    there = [stem(token) for token in tokens(search.text)]
    complete: list[tuple[int, Any]] = []
    for value in schema["enum"]:
        words = [stem(token) for token in tokens(str(value).replace("_", " ")) if token]
        if words and all(touches(word, there) for word in words):
            complete.append((len(words), value))
    return max(complete, key=lambda pair: pair[0])[1] if complete else None


def _number(name: str, schema: Schema, search: Search) -> Any:
    low, high = schema.get("minimum", float("-inf")), schema.get("maximum", float("inf"))
    fitting = [figure for figure in search.free() if low <= figure.value <= high]
    if schema.get("type") == "integer":
        fitting = [figure for figure in fitting if float(figure.value).is_integer()]
    figure = _nearest(fitting, name, schema, search)
    if figure is None:
        return None
    search.used.add(figure.start)
    return int(figure.value) if float(figure.value).is_integer() else figure.value


def _digits(name: str, schema: Schema, search: Search) -> Any:
    codes = [
        word.upper() for word in spoken_words(search.text) if re.fullmatch(r"(?=.*\d)(?=.*[a-z])\w+", word)
    ]
    figure = _nearest([f for f in search.free() if _fits(f.digits, schema)], name, schema, search)
    if figure is not None:
        search.used.add(figure.start)
        return figure.digits
    return next((code for code in codes if _fits(code, schema) and not code[:-2].isdigit()), None)


def _fits(text: str, schema: Schema) -> bool:
    pattern = schema.get("pattern")
    if pattern and not re.search(pattern, text):
        return False
    return int(schema.get("minLength", 0)) <= len(text) <= int(schema.get("maxLength", 1000))


def _nearest(found: Sequence[Figure], name: str, schema: Schema, search: Search) -> Figure | None:
    """Choose the figure whose neighbours speak of the argument; else the longest, as said first."""
    if not found:
        return None
    own = stems(f"{name.replace('_', ' ')} {schema.get('description', '')}")
    words = spoken_words(search.text)

    def closeness(figure: Figure) -> tuple[int, int, int]:
        around = words[max(0, figure.start - 3) : figure.start] + words[figure.end : figure.end + 2]
        near = sum(touches(stem(word), own) for word in around if word not in EMPTY)
        return near, len(figure.digits), -figure.start

    return max(found, key=closeness)


def _date(_name: str, _schema: Schema, search: Search) -> Any:
    if _WHICH_DAY.match(search.text):
        return None
    for match in _DATE.finditer(search.text):
        date = match[0].strip()
        if _dated(date) and date not in search.dates:
            search.dates.add(date)
            search.use(*match.span())
            return date
    return None


def _dated(text: str) -> bool:
    """A month must come with a figure: "may I" is no date."""
    named = [token for token in tokens(text) if re.fullmatch(_MONTH, token)]
    return not named or bool(figures(text))


def _time(name: str, schema: Schema, search: Search) -> Any:
    match = _TIME.search(search.text)
    if match is not None:
        search.use(*match.span())
        return re.sub(r"^(?:about|around)\s+", "", match[0].strip(), flags=re.IGNORECASE)
    return _answer(name, schema, search) if figures(search.text) else None


def _name(name: str, schema: Schema, search: Search) -> Any:
    for match in _NAME.finditer(search.text):
        person = _person(match[1])
        if person:
            return person
    answer = _answer(name, schema, search)
    return _person(answer) or None if answer and len(answer.split()) <= _LONGEST_NAME else None


def _person(text: str) -> str:
    """Keep the words that may be a name, up to the first that cannot."""
    kept: list[str] = []
    for word in text.replace("’", "'").split():
        bare = word.strip(".,!?;:")
        if bare.lower() in _FILLERS or bare.lower().endswith("ing") or bare.isdigit():
            break
        kept.append(bare[:1].upper() + bare[1:])
        if bare != word:
            break
    return " ".join(kept)


def _email(_name: str, _schema: Schema, search: Search) -> Any:
    match = _EMAIL.search(re.sub(r"\s+at\s+", "@", re.sub(r"\s+dot\s+", ".", search.text)))
    return match[0] if match else None


def _truth(name: str, schema: Schema, search: Search) -> Any:
    there = set(tokens(search.text))
    if not (search.asks(name) or any(touches(w, stems(search.text)) for w in stems(name.replace("_", " ")))):
        return None
    return False if there & _NO else True if there & _YES else None


def _words(_name: str, _schema: Schema, search: Search) -> Any:
    return search.text.strip() or None


def _phrase(name: str, schema: Schema, search: Search) -> Any:
    """What was answered, what follows the argument's own name, or what the tool's own words leave over."""
    answer = _answer(name, schema, search)
    if answer:
        return answer
    own = r"\s+".join(map(re.escape, name.replace("_", " ").split()))
    named = re.search(rf"\b{own}\s+(?:is|of|to|for|called|named|in)\s+([^,.!?]+)", search.text, re.IGNORECASE)
    if named:
        return named[1].strip()
    return _left_over(name, schema, search)


def _answer(name: str, schema: Schema, search: Search) -> str | None:
    """The whole answer to a question about this argument, without the words around it."""
    if not search.asks(name):
        return None
    kept = [word.strip(".,!?;:") for word in search.text.split()]
    while kept and kept[0].lower() in _FILLERS:
        kept.pop(0)
    while kept and kept[-1].lower() in _FILLERS:
        kept.pop()
    return " ".join(kept) or None


def _left_over(name: str, schema: Schema, search: Search) -> str | None:
    known = {*search.about, *stems(f"{name.replace('_', ' ')} {schema.get('description', '')}")}
    words = [word.strip(".,!?;:") for word in search.text.split()]
    new = [
        index
        for index, word in enumerate(words)
        if stems(word) and not any(alike(s, other) for s in stems(word) for other in known)
    ]
    return " ".join(words[new[0] : new[-1] + 1]) if new else None


def _array(name: str, schema: Schema, search: Search) -> Any:
    items = schema.get("items") or {}
    value = READERS[kind_of(name, items)](name, items, search)
    return None if value is None else [value]


def _object(_name: str, schema: Schema, search: Search) -> Any:
    """Fill what is definite of an object's own properties."""
    properties: Mapping[str, Schema] = schema.get("properties") or {}
    kinds = {name: kind_of(name, inner) for name, inner in properties.items()}
    found = {
        name: READERS[kind](name, properties[name], search)
        for name, kind in kinds.items()
        if kind in DEFINITE
    }
    return {name: value for name, value in found.items() if value is not None}


READERS: Mapping[str, Callable[[str, Schema, Search], Any]] = {
    "choice": _choice,
    "number": _number,
    "boolean": _truth,
    "array": _array,
    "object": _object,
    "email": _email,
    "date": _date,
    "time": _time,
    "digits": _digits,
    "name": _name,
    "free": _words,
    "phrase": _phrase,
}
"""For each kind what finds it in a search: the value, or None when it was not said."""
DEFINITE = frozenset({"choice", "number", "boolean", "email", "date", "time", "digits", "name"})
"""Kinds that are recognised by their form, wherever they are said."""
