"""Words and their likeness: stems, words that carry nothing, and how much of a text another one touches."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")

EMPTY = frozenset(
    _TOKEN.findall(
        """
        a about above actually after again agent agents all also am an and any anything are as ask
        assistant at back be because been before being but by call called caller callers calling calls can
        could customer customers did do does doing done for from get give given go going good got had
        has have having he hello help her here hey hi him his how i if in into is it its just kindly
        know let like line look me more most my need no not now of off ok okay on once one only or our
        out over own people phone please put question questions really say see she should so
        some somebody someone something speak such sure take talk telephone tell than thank thanks that
        the their them then there these they thing this those through to too under until up us use user
        users very want was we well were what when where which while who whom whose why will wish with
        would yes you your yours
        """
    )
)
"""Words that tell two requests on a telephone apart no better than silence."""

_PEOPLE = frozenset({"human", "humans", "operator", "representative", "supervisor", "persons"})

_ENDINGS = _TOKEN.findall(
    "ational fulness ization ations ation ments ment ities ity ness ances ance ings ing edly ies ied ers er "
    "ed es ly al s y e"
)


def tokens(text: str) -> list[str]:
    """Split into lower-case words and figures; an apostrophe belongs to its word."""
    return [token.replace("’", "'") for token in _TOKEN.findall(text.lower())]


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """Cut a word to what its forms share: "billing", "bills" and "billed" are all "bill"."""
    word = "person" if word in _PEOPLE else word.removesuffix("'s")
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return stem(_undouble(word.removesuffix(ending)))
    return word


def _undouble(word: str) -> str:
    doubled = len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouls"
    return word[:-1] if doubled else word


def stems(text: str) -> tuple[str, ...]:
    """Return the stems of the words that carry something, in order, each once."""
    return tuple(dict.fromkeys(stem(token) for token in tokens(text) if token not in EMPTY))


def alike(one: str, other: str) -> bool:
    """Tell whether two stems are one word: equal, or one begins the other and is no mere syllable."""
    short, long = sorted((one, other), key=len)
    return one == other or (len(short) >= 4 and long.startswith(short) and len(long) - len(short) <= 4)


def touches(word: str, among: Iterable[str]) -> bool:
    """Tell whether a stem is alike to any of the others."""
    return any(alike(word, other) for other in among)


def rarity(documents: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Weigh each stem by how few of the documents (stem → weight) have it: 1.0 in one, less in more.

    Only documents count in which it weighs most: a name is not worth less because descriptions mention it.
    """
    heaviest: dict[str, float] = {}
    for document in documents:
        for word, weight in document.items():
            heaviest[word] = max(weight, heaviest.get(word, 0.0))
    counts = {
        word: sum(document.get(word) == most for document in documents) for word, most in heaviest.items()
    }
    return {word: 1 / (1 + math.log(count)) for word, count in counts.items()}


def likeness(words: Iterable[str], document: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Add up, for each of the words, the best alike stem of the document: its weight by its rarity."""
    return sum(
        max(
            (weight * weights.get(other, 1.0) for other, weight in document.items() if alike(word, other)),
            default=0.0,
        )
        for word in words
    )


def echoes(text: str, said: str) -> bool:
    """Tell whether `said` contains nearly all that `text` says: it was said before, if not word for word."""
    wanted = stems(text) or tuple(tokens(text))
    there = stems(said) or tuple(tokens(said))
    return bool(wanted) and sum(touches(word, there) for word in wanted) >= 0.8 * len(wanted)
