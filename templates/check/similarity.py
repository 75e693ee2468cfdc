"""Similarity of descriptions: which ones a model may confuse, by the share of common words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import TypeVar

Item = TypeVar("Item")

THRESHOLD = 0.75
"""Jaccard index of the words from which two descriptions count as similar."""

_COMPARED = 1000
"""Characters of a description that are compared: the cost is quadratic in the number of descriptions."""

_WORD = re.compile(r"\w+")
_COMMON = """
a an the of to in on for or and any is are was be been has have had with about their its his her this that
when if caller callers customer user wants want would like asks ask needs need wishes calls call
"""
_STOP_WORDS = frozenset(_COMMON.split())
"""Words that are common in descriptions and do not distinguish them."""


def similar_pairs(items: Sequence[Item], *, text: Callable[[Item], str]) -> Iterator[tuple[Item, Item]]:
    """Pairs of items with similar texts, each pair once, in the order of the items."""
    items_with_words = [(item, words) for item in items if (words := _distinctive_words(text(item)))]
    for (first, first_words), (second, second_words) in combinations(items_with_words, 2):
        fewer, more = sorted((len(first_words), len(second_words)))
        if fewer / more >= THRESHOLD:  # else the index is below it, whatever the words are
            common = len(first_words & second_words)
            if common / (fewer + more - common) >= THRESHOLD:
                yield first, second


def _distinctive_words(text: str) -> frozenset[str]:
    words = {word for word in _WORD.findall(text[:_COMPARED].lower()) if word not in _STOP_WORDS}
    return frozenset(word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words)
