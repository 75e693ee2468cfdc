"""Words and their stems: what makes two texts alike."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
STOP_WORDS = frozenset(
    _TOKEN.findall(
        """
        a about above actually after again agent agents all also am an and any anything are as ask
        assistant at back be because been before being but by call called caller callers calling
        calls can could customer customers did do does doing done for from get give given give go
        going good got had has have having he hello help her here hey hi him his how i if in into is
        it its just kindly know let like line look me more most my need no not now of off ok okay on
        once one only or our out over own people phone please put question questions really say see
        she should so some somebody someone something speak such sure take talk telephone tell than
        thank thanks that the their them then there these they thing this those through to too under
        until up us use user users very want was we well were what when where which while who whom
        whose why will wish with would yes you your yours
        """
    )
)
"""Words that do not distinguish one request on a telephone from another."""

_ENDINGS = _TOKEN.findall(
    "ational fulness ization ations ation ments ment ities ity ness ances ance ings ing edly ies ied ers er "
    "ed es ly al s y e"
)


def tokens(text: str) -> list[str]:
    """Split a text into lower-case words and figures; an apostrophe belongs to its word."""
    return [token.replace("’", "'") for token in _TOKEN.findall(text.lower())]


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """Remove the endings of a word: "billing", "bills" and "billed" all become "bill"."""
    word = word.removesuffix("'s")
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            cut = word.removesuffix(ending)
            doubled = len(cut) > 3 and cut[-1] == cut[-2] and cut[-1] not in "aeiouls"
            return stem(cut[:-1] if doubled else cut)
    return word


def stems(text: str) -> tuple[str, ...]:
    """Return the stems of all words but the stop words, in order, each once."""
    return tuple(dict.fromkeys(stem(token) for token in tokens(text) if token not in STOP_WORDS))


def alike(one: str, other: str) -> bool:
    """Tell whether stems are equal, or one begins with the other (4 letters or more) and is little longer."""
    short, long = sorted((one, other), key=len)
    return one == other or (len(short) >= 4 and long.startswith(short) and len(long) - len(short) <= 4)


def occurs(word: str, among: Iterable[str]) -> bool:
    """Tell whether a stem is alike to any of the others."""
    return any(alike(word, other) for other in among)


def spaced(name: str) -> str:
    """Return a name as words: "invoice_number" and "invoiceNumber" are "invoice number"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").replace("-", " ").lower()


def repeats(text: str, said: str) -> bool:
    """Tell whether `said` has at least 80 % of the words of `text`."""
    wanted, there = stems(text) or tuple(tokens(text)), stems(said) or tuple(tokens(said))
    return bool(wanted) and sum(occurs(word, there) for word in wanted) >= 0.8 * len(wanted)
