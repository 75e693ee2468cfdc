"""Which descriptions a model will confuse, judged by how many of their words they share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import TypeVar

Item = TypeVar("Item")

THRESHOLD = 0.75
"""Share of common words (Jaccard) from which two descriptions count as alike."""

_WORD = re.compile(r"\w+")
_COMMON = """
a an the of to in on for or and any is are was be been has have had with about their its his her this that
when if caller callers customer user wants want would like asks ask needs need wishes calls call
"""
_EMPTY_WORDS = frozenset(_COMMON.split())
"""Words that nearly every description has, and that tell two of them apart by nothing."""


def alike(items: Sequence[Item], *, text: Callable[[Item], str]) -> Iterator[tuple[Item, Item]]:
    """Pairs of items whose texts a model would confuse, each pair once, in order."""
    worded = [(item, _telling_words(text(item))) for item in items]
    for (first, ours), (second, theirs) in combinations(worded, 2):
        if ours and theirs and len(ours & theirs) / len(ours | theirs) >= THRESHOLD:
            yield first, second


def _telling_words(text: str) -> frozenset[str]:
    words = {word for word in _WORD.findall(text.lower()) if word not in _EMPTY_WORDS}
    return frozenset(word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words)
