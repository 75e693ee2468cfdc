"""The arguments of a function, found in what the caller said."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voicebot.sandbox.model.conversation import Turn
from voicebot.sandbox.model.words import STOP_WORDS, occurs, spaced, stem, stems, tokens

Schema = Mapping[str, Any]

_SMALL = tokens(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_VALUES = {word: value for value, word in enumerate(_SMALL)} | {"oh": 0}
_TENS = dict(
    zip(tokens("twenty thirty forty fifty sixty seventy eighty ninety"), range(20, 100, 10), strict=True)
)
_NUMBER_WORD = rf"\d+(?:\.\d+)?|{'|'.join([*_VALUES, *_TENS])}"
_NUMBER = re.compile(rf"(?<![\w.])(?:{_NUMBER_WORD})(?:[ -](?:{_NUMBER_WORD}))*(?![\w])", re.IGNORECASE)
_DAYS = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
_ORDINAL = r"(?:\d{1,2}(?:st|nd|rd|th)?|(?:twenty |thirty )?(?:first|second|third|\w+th))"
_DATE = re.compile(
    rf"\d{{4}}-\d\d-\d\d|(?:(?:next|this)\s+)?\b(?:{_DAYS})\b|\b(?:today|tomorrow|tonight)\b"
    rf"|\b(?:{_MONTHS})\s+(?:the\s+)?{_ORDINAL}(?:,?\s+\d{{4}})?"
    rf"|(?:the\s+)?\b{_ORDINAL}\s+(?:of\s+)?(?:{_MONTHS})\b(?:,?\s+\d{{4}})?",
    re.IGNORECASE,
)
_HOUR = rf"(?:\d{{1,2}}(?::\d\d)?|{'|'.join(_SMALL[1:13])})"
_MINUTES = r"(?: (?:fifteen|thirty|forty[ -]five))?"
_TIME = re.compile(
    rf"\b(?:half past|quarter (?:past|to)) {_HOUR}|\b{_HOUR}{_MINUTES}\s?(?:[ap]\.?m\b\.?|o'?clock)"
    rf"|\b(?:noon|midnight)\b|(?<=\bat ){_HOUR}{_MINUTES}\b|\b\d{{1,2}}:\d\d\b",
    re.IGNORECASE,
)
_PERSON = re.compile(
    r"\b(?:name is|name's|this is|i am|i'm|name of)\s+((?:[^\W\d_][\w'’-]*\s*){1,3})", re.IGNORECASE
)
_FILLERS = STOP_WORDS | frozenset(tokens("uh um well yes no name under speaking"))


@dataclass(slots=True)
class Utterance:
    """What the caller said, of which each figure and date is used once, and the question before it."""

    text: str
    asked: str = ""

    def take(self, match: re.Match[str] | None) -> str | None:
        """Return the match, and replace it by spaces."""
        if match is None:
            return None
        self.text = self.text[: match.start()] + "\x00" * len(match[0]) + self.text[match.end() :]
        return match[0].strip()

    def answer(self) -> str | None:
        """Return it without the stop words at both ends."""
        kept = [word.strip(".,!?;:") for word in self.text.replace("\x00", "").split()]
        while kept and kept[0].lower() in _FILLERS:
            kept.pop(0)
        while kept and kept[-1].lower() in _FILLERS:
            kept.pop()
        return " ".join(kept) or None


@dataclass(slots=True, kw_only=True)
class Filled:
    """The arguments. `told` were said in a recognisable form; `missing` have to be asked for."""

    arguments: dict[str, Any] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def fill(parameters: Schema, turns: Sequence[Turn]) -> Filled:
    """Fill a function's parameters.

    Args:
        parameters: JSON Schema of an object.
        turns: where to look; a turn that answers a question for the argument comes first.
    """
    properties: Mapping[str, Schema] = parameters.get("properties") or {}
    required = [name for name in parameters.get("required") or () if name in properties]
    said = [Utterance(turn.words, turn.asked) for turn in turns]
    filled, found = Filled(), dict[str, Any]()
    for name in sorted(properties, key=lambda name: list(_READERS).index(kind_of(name, properties[name]))):
        schema, kind = properties[name], kind_of(name, properties[name])
        if name not in required and kind not in DEFINITE:
            continue
        value = _first(name, schema, sorted(said, key=lambda each: not asks_for(each.asked, name)))
        if value is not None and (kind in DEFINITE or any(asks_for(each.asked, name) for each in said)):
            filled.told.append(name)
        if value is not None:
            found[name] = value
    filled.arguments = {name: found[name] for name in (*required, *properties) if name in found}
    filled.missing = [name for name in required if name not in found]
    return filled


def asks_for(asked: str, name: str) -> bool:
    """Tell whether something that was said is a question with all words of an argument's name."""
    words = [stem(token) for token in tokens(asked)]
    return "?" in asked and all(occurs(stem(word), words) for word in tokens(spaced(name)))


def kind_of(name: str, schema: Schema) -> str:
    """Return how an argument is looked for: by its schema, else by the words of its name."""
    if schema.get("enum"):
        return "choice"
    if schema.get("type") in ("integer", "number"):
        return "number"
    if schema.get("type") not in (None, "string"):
        return "other"
    own = {stem(token) for token in tokens(spaced(name))}
    by_name = (kind for kind, words in _BY_NAME.items() if own & words or schema.get("format") == kind)
    return next(by_name, "digits" if "digit" in stems(str(schema.get("description", ""))) else "phrase")


def _first(name: str, schema: Schema, said: Sequence[Utterance]) -> Any:
    values = (_READERS[kind_of(name, schema)](name, schema, each) for each in said)
    return next((value for value in values if value is not None), None)


def _choice(_name: str, schema: Schema, said: Utterance) -> Any:
    there = [stem(token) for token in tokens(said.text)]
    named = [v for v in schema["enum"] if all(occurs(stem(word), there) for word in tokens(spaced(str(v))))]
    return max(named, key=lambda value: len(str(value)), default=None)


def _numbers(said: Utterance) -> list[tuple[str, re.Match[str]]]:
    """Return the digits of each number, longest first: "four two" is 42, and so is "forty two"."""
    found = []
    for match in _NUMBER.finditer(said.text):
        words = re.split(r"[ -]", match[0].lower())
        tens = {word: str(_TENS[word] // 10) for word in words if word in _TENS and word != words[-1]}
        digits = "".join(tens.get(word) or str(_TENS.get(word, _VALUES.get(word, word))) for word in words)
        found.append((digits, match))
    return sorted(found, key=lambda each: -len(each[0]))


def _digits(_name: str, schema: Schema, said: Utterance) -> Any:
    for digits, match in _numbers(said):
        if re.search(schema.get("pattern") or "", digits):
            said.take(match)
            return digits
    return None


def _number(_name: str, schema: Schema, said: Utterance) -> Any:
    low, high = schema.get("minimum", float("-inf")), schema.get("maximum", float("inf"))
    for digits, match in _numbers(said):
        value = float(digits)
        if low <= value <= high and (value.is_integer() or schema["type"] == "number"):
            said.take(match)
            return int(value) if value.is_integer() else value
    return None


def _date(_name: str, _schema: Schema, said: Utterance) -> Any:
    return said.take(_DATE.search(said.text))


def _time(_name: str, _schema: Schema, said: Utterance) -> Any:
    return said.take(_TIME.search(said.text))


def _name(name: str, _schema: Schema, said: Utterance) -> Any:
    named = _PERSON.search(said.text)
    answer = (said.answer() or "") if asks_for(said.asked, name) else ""
    for text in (named[1] if named else "", answer if len(answer.split()) <= 4 else ""):
        kept = []
        for word in text.split():
            bare = word.strip(".,!?;:")
            if bare.lower() in _FILLERS or bare.lower().endswith("ing") or not bare[:1].isalpha():
                break
            kept.append(bare[:1].upper() + bare[1:])
        if kept:
            return " ".join(kept)
    return None


def _text(_name: str, _schema: Schema, said: Utterance) -> Any:
    return said.text.replace("\x00", "").strip() or None


def _phrase(name: str, _schema: Schema, said: Utterance) -> Any:
    return said.answer() if asks_for(said.asked, name) else None


def _nothing(_name: str, _schema: Schema, _said: Utterance) -> Any:
    return None


_READERS: Mapping[str, Callable[[str, Schema, Utterance], Any]] = {
    "date": _date, "time": _time, "digits": _digits, "number": _number, "choice": _choice,
    "name": _name, "text": _text, "phrase": _phrase, "other": _nothing,
}  # fmt: skip
"""How each kind is read, in the order in which arguments are looked for."""
DEFINITE = frozenset({"date", "time", "digits", "number", "choice", "name"})
"""Kinds that have a recognisable form."""
_BY_NAME = {
    kind: frozenset(map(stem, tokens(words)))
    for kind, words in {
        "date": "date day",
        "time": "time hour",
        "digits": "number id code pin phone reference zip account",
        "name": "name surname",
        "text": "reason message note summary description comment question request problem issue topic wish",
    }.items()
}
