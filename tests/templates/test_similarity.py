from __future__ import annotations

import pytest

from templates.check.similarity import similar_pairs


@pytest.mark.parametrize(
    ("first", "second", "are_similar"),
    [
        ("red green blue", "red green blue white", True),  # 3 words of 4
        ("red green blue white", "blue green red", True),
        ("red green blue black", "red green blue white", False),  # 3 of 5
        ("red green", "red green blue", False),  # 2 of 3
        ("Red, greens!", "The caller wants green or red.", True),
        ("red", "green", False),
        ("", "", False),
        ("the caller", "a caller", False),  # no words that distinguish
        ("", "red", False),
    ],
)
def test_similar_texts_have_three_quarters_of_their_words_in_common(
    first: str, second: str, are_similar: bool
) -> None:
    """The words of both are counted once, without common ones and plurals."""
    assert list(similar_pairs([first, second], text=str)) == ([(first, second)] if are_similar else [])


def test_each_pair_is_found_once_in_the_order_of_the_items() -> None:
    """Items between them that are not similar, or have no words, make no difference."""
    items = [(1, "red green"), (2, ""), (3, "white"), (4, "green red"), (5, "red and green")]
    found = [(first[0], second[0]) for first, second in similar_pairs(items, text=lambda item: item[1])]
    assert found == [(1, 4), (1, 5), (4, 5)]
