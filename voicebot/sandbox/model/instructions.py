"""Reading instructions: sentences that say what to say, what to ask, what to tell, and when."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from voicebot.sandbox.model.words import tokens

Kind = Literal["say", "ask", "call", "fact", "other"]

_QUOTE = re.compile(r"[\"“«]([^\"”»]+)[\"”»]|(?<!\w)['‘]([^'’\n]{2,}?[.!?,]?)['’](?!\w)")
_END = re.compile(r"(?<=[.!?;])\s+(?=[\"“A-Z0-9-])|\n+")
_WRAPPED = re.compile(r"(?<=[^\s.!?:;])[ \t]*\n[ \t]*(?=[a-z`\"“\x00(])")
_BULLET = re.compile(r"^\s*(?:[-*•]|\(?\d+[.)]|step \d+[.:])\s*", re.IGNORECASE)
_WHEN = r"(?:if|when|whenever|once|after|as soon as|in case|unless)"
_LEADING = re.compile(
    rf"^(?:and |then |but )?{_WHEN}\b\s+(.+?)(?:,|\bthen\b)\s*(.+)$", re.IGNORECASE | re.DOTALL
)
_TRAILING = re.compile(rf"^(.+?)\s+{_WHEN}\s+(.+)$", re.IGNORECASE | re.DOTALL)
_NEVER = re.compile(r"\b(?:never|not|don't|avoid|without)\b", re.IGNORECASE)
_SAY = re.compile(
    r"\b(?:say|saying|says|greet|answer|reply|respond|tell|ask|introduce|begin|start|open|announce|explain|"
    r"mention|finish|end|close|add|repeat|words)\b",
    re.IGNORECASE,
)
_WHO = r"(?:the (?:caller|customer|user|guest|patient|client)|callers|them|him|her|people)"
_ASK_FOR = re.compile(
    rf"\b(?:ask|request)\b(?:\s+{_WHO})?\s+(?:for|about)\s+(.+)"
    rf"|\b(?:ask|find out|collect|get|take)\s+((?:{_WHO}'s|their|his|her)\s+.+)",
    re.IGNORECASE,
)
_ASK_WHAT = re.compile(
    rf"\b(?:ask|find out|check)\b(?:\s+{_WHO})?\s+((?:what|which|when|where|who|how|whether|if|why)\b.+)",
    re.IGNORECASE,
)
_TELL = re.compile(rf"\b(?:tell|inform|remind|let)\s+{_WHO}(?:\s+know)?\s+(?:that\s+)?(.+)", re.IGNORECASE)
_ROLE = re.compile(
    r"\b(?:you are|you're|you act as)\s+(.+?)(?:[.;:!?]|\s+(?:who|that|which)\s|$)", re.IGNORECASE
)
_THEN = re.compile(r",?\s+(?:and\s+)?then\s", re.IGNORECASE)
_LABELLED = re.compile(r"^[\w' ]{2,40}: \S")
_FINITE = re.compile(
    r"\b(?:is|are|was|were|costs?|opens?|closes?|has|have|takes?|starts?|ends?|lasts?|offers?)\b"
)
_IMPERATIVE = (
    "after", "always", "answer", "ask", "avoid", "be", "begin", "book", "call", "check", "close",
    "collect", "confirm", "do", "don't", "end", "explain", "find", "finish", "get", "give", "greet",
    "hand", "help", "if", "keep", "let", "look", "make", "mention", "never", "note", "offer", "once",
    "only", "pass", "put", "read", "record", "remember", "repeat", "reply", "respond", "route", "say",
    "send", "speak", "start", "stay", "take", "talk", "tell", "thank", "then", "transfer", "try",
    "unless", "use", "wait", "when", "write", "you", "your",
)  # fmt: skip
_NEXT_STEP = re.compile(
    rf"(?:,|;)?\s+(?:and|then|and then)\s+(?=(?:{'|'.join(_IMPERATIVE)})\b)", re.IGNORECASE
)
_TURNED = {
    "they're": "you are", "they've": "you have", "they": "you", "them": "you", "their": "your",
    "theirs": "yours", "his": "your", "he": "you", "she": "you", "him": "you", "her": "your",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing that the instructions want, or a fact they tell.

    Attributes:
        kind: `say` gives words, `ask` a question, `call` a tool, `fact` a statement of some use.
        text: what is to be spoken; for `call` the tool's name.
        condition: when; empty for always.
        step: the words it was read from.
    """

    kind: Kind
    text: str
    condition: str
    step: str

    @property
    def spoken(self) -> bool:
        """Whether its text is to be said."""
        return self.kind in ("say", "ask")


def rules(instructions: Iterable[str], names: Iterable[str] = ()) -> list[Rule]:
    """Read every sentence, step by step; `names` are the tools that may be spoken of."""
    known = tuple(names)
    return [rule for text in instructions for one in sentences(text) for rule in _rules(one, known)]


def sentences(text: str) -> list[str]:
    """Split instructions into sentences, which may go on in the next line; what is quoted is never split."""
    kept: list[str] = []

    def hide(match: re.Match[str]) -> str:
        kept.append(match[0])
        return f"\x00{len(kept) - 1}\x00{'. ' if match[0][-2] in '.!?' else ''}"

    hidden = _WRAPPED.sub(" ", _QUOTE.sub(hide, text))
    parts = (_BULLET.sub("", part).strip() for part in _END.split(hidden))
    whole = (re.sub(r"\x00(\d+)\x00(?:\. ?)?", lambda m: kept[int(m[1])], part) for part in parts)
    return [part for part in whole if part]


def role(instructions: Iterable[str]) -> str:
    """Return who the model is told it is, such as "Ada of the library"; empty when it is not told."""
    for text in instructions:
        match = _ROLE.search(text)
        if match:
            return match[1].strip(" ,")
    return ""


def quotes(step: str) -> list[str]:
    """Return what a step has in quotation marks."""
    return [_in_one_line(match[1] or match[2]) for match in _QUOTE.finditer(step)]


def _rules(sentence: str, names: Sequence[str]) -> Iterator[Rule]:
    """Read the steps of a sentence; a condition at its beginning holds for all of them."""
    leading = _LEADING.match(_masked(sentence))
    always, rest = ("", 0) if leading is None else (sentence[slice(*leading.span(1))], leading.start(2))
    for step in _steps(sentence[rest:]):
        condition, action = (always, step) if always else _trailing(step)
        yield _rule(condition, action, names)


def _rule(condition: str, action: str, names: Sequence[str]) -> Rule:
    for kind, text in _readings(action, names):
        if text:
            return Rule(kind=kind, text=text, condition=condition, step=action)
    return Rule(kind="other", text="", condition=condition, step=action)


def _readings(action: str, names: Sequence[str]) -> Iterator[tuple[Kind, str]]:
    forbidden = bool(_NEVER.search(_masked(action)))
    if not forbidden:
        yield "call", _named(action, names)
    yield "say", _quoted(action)
    if not forbidden:
        yield "ask", _question(action)
        yield "say", _told(action)
        yield "fact", _fact(action)


def _masked(text: str) -> str:
    """Blank out what is quoted, keeping every other character where it is."""
    return _QUOTE.sub(lambda match: "\x00" * len(match[0]), text)


def _steps(action: str) -> Iterator[str]:
    start = 0
    for joint in _NEXT_STEP.finditer(_masked(action)):
        yield action[start : joint.start()]
        start = joint.end()
    yield action[start:]


def _trailing(step: str) -> tuple[str, str]:
    """Part a step from a condition at its end."""
    masked = _masked(step)
    trailing = _TRAILING.match(masked)
    if trailing is None or _ASK_WHAT.search(masked):
        return "", step
    return step[slice(*trailing.span(2))].rstrip(".!"), step[: trailing.end(1)]


def _named(action: str, names: Sequence[str]) -> str:
    """The tool that a step speaks of by name; a name of one plain word needs a verb or quotes before it."""
    for name in names:
        plain = name.isalpha() and name.islower()
        before = r"(?:\b(?:call|use|run|invoke)\s+(?:the\s+)?|`)" if plain else r"(?<!\w)"
        if re.search(rf"{before}[`'\"]?{re.escape(name)}(?!\w)", action, re.IGNORECASE):
            return name
    return ""


def _quoted(action: str) -> str:
    match = _QUOTE.search(action)
    if match is None:
        return ""
    before = action[: match.start()]
    if _NEVER.search(before) or not _SAY.search(before):
        return ""
    return _in_one_line(match[1] or match[2])


def _question(action: str) -> str:
    what = _ASK_WHAT.search(action)
    if what:
        return f"May I ask {_turned(what[1])}?"
    wanted = _ASK_FOR.search(action)
    if wanted is None:
        return ""
    topic = _turned(_THEN.split(next(group for group in wanted.groups() if group), maxsplit=1)[0])
    first = topic.split(" ", 1)[0].lower()
    return f"Could you tell me {topic if first in ('your', 'the', 'a', 'an') else f'your {topic}'}, please?"


def _told(action: str) -> str:
    match = _TELL.search(action)
    return _sentence(_turned(match[1])) if match else ""


def _fact(action: str) -> str:
    words = tokens(action)
    telling = _FINITE.search(action) or _LABELLED.match(action)
    if len(words) < 3 or words[0] in _IMPERATIVE or not telling or _QUOTE.search(action):
        return ""
    return _sentence(action)


def _turned(text: str) -> str:
    """Speak to the caller instead of about them: "their order" becomes "your order"."""
    text = re.sub(rf"\b{_WHO}'s\b", "your", text.strip().rstrip(".!?;:,"), flags=re.IGNORECASE)
    # What begins with one of them is a name of something: "the customer number".
    text = re.sub(rf"(?!\A)\b{_WHO}\b", "they", text, flags=re.IGNORECASE)
    text = re.sub(r"\bthey (is|was|has|does|wants|needs|likes)\b", _agreed, text, flags=re.IGNORECASE)
    return re.sub(r"[\w']+", lambda match: _TURNED.get(match[0].lower(), match[0]), text)


def _agreed(match: re.Match[str]) -> str:
    irregular = {"is": "are", "was": "were", "has": "have", "does": "do"}
    return f"you {irregular.get(match[1].lower(), match[1].removesuffix('s'))}"


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


def _sentence(text: str) -> str:
    text = text.strip().rstrip(".!;:,")
    return f"{text[:1].upper()}{text[1:]}." if text else ""
