"""Instructions, read sentence by sentence into rules: what to say, ask or call, and in which case."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from voicebot.sandbox.model.words import tokens

_QUOTE = re.compile(r"[\"“«]([^\"”»]+)[\"”»]|(?<!\w)['‘]([^'’\n]{2,}?[.!?,]?)['’](?!\w)")
_END = re.compile(r"(?<=[.!?;])\s+(?=[\"“A-Z0-9-])|\n+")
_WRAPPED = re.compile(r"(?<=[^\s.!?:;])[ \t]*\n[ \t]*(?=[a-z`\"“\x00(])")
_WHEN = r"(?:if|when|whenever|once|after|as soon as)"
_LEADING = re.compile(
    rf"^(?:and |then |but )?{_WHEN}\b\s+(.+?)(?:,|\bthen\b)\s*(.+)$", re.IGNORECASE | re.DOTALL
)
_NEVER = re.compile(r"\b(?:never|not|nothing|don't|without)\b", re.IGNORECASE)
_SAY = re.compile(r"\b(?:say|saying|greet|answer|reply|respond|tell|ask|begin|start)\b", re.IGNORECASE)
_CALLER = r"(?:the (?:caller|customer|user|guest|patient)|callers|them|him|her)"
_ASK_FOR = re.compile(
    rf"\bask\b(?:\s+{_CALLER})?\s+(?:for|about)\s+(.+)|\b(?:ask|find out)\s+((?:{_CALLER}'s|their)\s+.+)",
    re.IGNORECASE,
)
_ASK_WHAT = re.compile(
    rf"\b(?:ask|find out)\b(?:\s+{_CALLER})?\s+((?:on )?(?:what|which|when|where|who|how|whether|why)\b.+)",
    re.IGNORECASE,
)
_FINITE = re.compile(
    r"\b(?:is|are|was|were|costs?|opens?|closes?|has|have|takes?|starts?|ends?|bring|comes?)\b"
)
_IMPERATIVE = frozenset(
    tokens(
        "after always answer ask be begin book call collect confirm do don't end find give greet hand "
        "help if keep let look make never note offer once only pass put read record reply route say speak "
        "start take tell then use wait when you your"
    )
)
_NEXT = re.compile(
    rf"(?:,|;)?\s+(?:and|then|and then)\s+(?=(?:{'|'.join(sorted(_IMPERATIVE))})\b)", re.IGNORECASE
)
_TO_CALLER = {"they": "you", "them": "you", "their": "your", "his": "your", "her": "your"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing that the instructions want.

    Attributes:
        kind: `say` and `ask` give words, `call` a function, `fact` a statement; `other` is not understood.
        text: the words; for `call` the name of the function.
        condition: when it applies; empty: always.
        source: the part of the sentence that it was read from.
    """

    kind: Literal["say", "ask", "call", "fact", "other"]
    text: str
    condition: str
    source: str

    @property
    def spoken(self) -> bool:
        """Whether its text is said to the caller."""
        return self.kind in ("say", "ask")


def rules(instructions: Iterable[str], names: Sequence[str]) -> list[Rule]:
    """Read instructions; `names` are the functions that they may name."""
    return [rule for text in instructions for sentence in sentences(text) for rule in _rules(sentence, names)]


def sentences(text: str) -> list[str]:
    """Split a text into sentences. A sentence may go on in the next line; quoted words are not split."""
    kept: list[str] = []

    def hide(match: re.Match[str]) -> str:
        kept.append(match[0])
        return f"\x00{len(kept) - 1}\x00{'. ' if match[0][-2] in '.!?' else ''}"

    hidden = _WRAPPED.sub(" ", _QUOTE.sub(hide, text))
    parts = (re.sub(r"^\s*(?:[-*•]|\d+[.)])\s*", "", part).strip() for part in _END.split(hidden))
    whole = (re.sub(r"\x00(\d+)\x00(?:\. ?)?", lambda m: kept[int(m[1])], part) for part in parts)
    return [part for part in whole if part]


def quotes(text: str) -> list[str]:
    """Return the parts of a text that are in quotation marks, each in one line."""
    return [" ".join((match[1] or match[2]).split()) for match in _QUOTE.finditer(text)]


def _rules(sentence: str, names: Sequence[str]) -> Iterator[Rule]:
    masked = _masked(sentence)
    leading = _LEADING.match(masked)
    start = leading.start(2) if leading else 0
    condition = sentence[slice(*leading.span(1))] if leading else ""
    for joint in (*_NEXT.finditer(masked, start), None):
        part = sentence[start : joint.start() if joint else None]
        start = joint.end() if joint else start
        yield _rule(part, condition, names)


def _rule(part: str, condition: str, names: Sequence[str]) -> Rule:
    call, quoted = _named(part, names), _quoted(part)
    if _NEVER.search(_masked(part)):
        call = ""
    elif not (call or quoted):
        question, fact = _question(part), _fact(part)
        if question or fact:
            return Rule(
                kind="ask" if question else "fact", text=question or fact, condition=condition, source=part
            )
    kind: Literal["call", "say", "other"] = "call" if call else "say" if quoted else "other"
    return Rule(kind=kind, text=call or quoted, condition=condition, source=part)


def _masked(text: str) -> str:
    """Replace quotations by spaces; the other characters keep their positions."""
    return _QUOTE.sub(lambda match: "\x00" * len(match[0]), text)


def _named(part: str, names: Sequence[str]) -> str:
    return next((name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", part)), "")


def _quoted(part: str) -> str:
    match = _QUOTE.search(part)
    before = part[: match.start()] if match else ""
    return quotes(part)[0] if _SAY.search(before) and not _NEVER.search(before) else ""


def _question(part: str) -> str:
    what = _ASK_WHAT.search(part)
    if what:
        return f"May I ask {_to_caller(what[1])}?"
    wanted = _ASK_FOR.search(part)
    if wanted is None:
        return ""
    topic = _to_caller(wanted[1] or wanted[2])
    first = topic.split(" ", 1)[0].lower()
    return f"Could you tell me {topic if first in ('your', 'the', 'a', 'an') else f'your {topic}'}, please?"


def _fact(part: str) -> str:
    words = tokens(part)
    told = (
        len(words) >= 3 and words[0] not in _IMPERATIVE and _FINITE.search(part) and not _QUOTE.search(part)
    )
    text = part.strip().rstrip(".!;:,")
    return f"{text[:1].upper()}{text[1:]}." if told else ""


def _to_caller(text: str) -> str:
    """Speak to the caller instead of about them: "their order" becomes "your order"."""
    text = re.sub(rf"\b{_CALLER}'s\b", "your", text.strip().rstrip(".!?;:,"), flags=re.IGNORECASE)
    text = re.sub(rf"(?!\A)\b{_CALLER} (\w+?)s\b", r"you \1", text, flags=re.IGNORECASE)
    text = re.sub(rf"(?!\A)\b{_CALLER}\Z", "you", text)
    return re.sub(r"[\w']+", lambda match: _TO_CALLER.get(match[0].lower(), match[0]), text)
