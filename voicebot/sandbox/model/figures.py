"""Numbers in what a caller says: "four two seven one", "twenty-five", "two hundred and six", "4271"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from voicebot.sandbox.model.words import tokens

_UNIT_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_UNITS = {word: value for value, word in enumerate(_UNIT_WORDS)} | {"nought": 0}
_TEN_WORDS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_TENS = {word: 10 * value for value, word in enumerate(_TEN_WORDS, start=2)}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000}
_REPEATS = {"double": 2, "triple": 3}
_ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fifth": 5, "eighth": 8, "ninth": 9, "twelfth": 12,
    "twentieth": 20, "thirtieth": 30,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number as it was said: its digits ("0042"), its value, and which words of the utterance it took."""

    digits: str
    value: float
    start: int
    end: int


def figures(text: str) -> list[Figure]:
    """Find the numbers in an utterance, in order. Digits said one by one make one number."""
    words = [part for token in _decimal_tokens(text) for part in token.split("-")]
    found: list[Figure] = []
    at = 0
    while at < len(words):
        figure = _read(words, at)
        if figure is None:
            at += 1
        else:
            found.append(figure)
            at = figure.end
    return found


def spoken_words(text: str) -> list[str]:
    """Split an utterance into the words that a `Figure`'s start and end count."""
    return [part for token in _decimal_tokens(text) for part in token.split("-")]


def _decimal_tokens(text: str) -> list[str]:
    """Tokens, except that "12.50" and "1,200" stay whole."""
    out: list[str] = []
    for chunk in text.lower().split():
        bare = chunk.strip(".,;:!?()\"'$€£#").replace(",", "")
        whole = bare.replace(".", "", 1).isdigit() and bare.isascii()
        out.extend([bare] if whole else tokens(chunk))
    return out


def _read(words: Sequence[str], at: int) -> Figure | None:
    for reader in (_digit_by_digit, _in_words):
        figure = reader(words, at)
        if figure is not None:
            return figure
    return None


def _digit_by_digit(words: Sequence[str], at: int) -> Figure | None:
    """Read figures, and digits said one by one: "4271", "4 2 7 1", "four two double seven"."""
    digits, index = "", at
    while index < len(words):
        word, repeat = words[index], 1
        if word in _REPEATS and index + 1 < len(words) and _UNITS.get(words[index + 1], 10) < 10:
            repeat, index = _REPEATS[word], index + 1
            word = words[index]
        if _UNITS.get(word, 10) < 10:
            digits += str(_UNITS[word]) * repeat
        elif word == "oh" and digits:
            digits += "0" * repeat
        elif word.isdigit() and word.isascii():
            digits += word
        elif not digits and _is_decimal(word):
            return Figure(digits=word, value=float(word), start=at, end=index + 1)
        else:
            break
        index += 1
    scaled = index < len(words) and words[index] in _SCALES
    if not digits or scaled:
        return None
    return Figure(digits=digits, value=int(digits), start=at, end=index)


def _in_words(words: Sequence[str], at: int) -> Figure | None:
    """Read a number in words: "twenty five", "two hundred and six", "3 thousand", "third"."""
    total, current, index = 0, 0, at
    while index < len(words):
        word, before = words[index], words[index - 1] if index > at else None
        value = _small(word)
        if value is not None and _may_follow(value, before):
            current += value
        elif word in _SCALES and before is not None:
            current = max(1, current) * _SCALES[word]
            if _SCALES[word] >= 1000:
                total, current = total + current, 0
        elif not (word == "and" and before in _SCALES and _small(_at(words, index + 1)) is not None):
            break
        index += 1
    if index == at:
        return None
    return Figure(digits=str(total + current), value=total + current, start=at, end=index)


def _may_follow(value: int, before: str | None) -> bool:
    """A unit follows a ten; anything follows a scale, or nothing: "seven twenty" is two numbers."""
    return before is None or before in _SCALES or before == "and" or (before in _TENS and value < 10)


def _at(words: Sequence[str], index: int) -> str:
    return words[index] if index < len(words) else ""


def _small(word: str) -> int | None:
    for table in (_UNITS, _TENS, _ORDINALS):
        if word in table:
            return table[word]
    if word.isdigit() and word.isascii():
        return int(word)
    bare = word.removesuffix("st").removesuffix("nd").removesuffix("rd").removesuffix("th")
    if bare != word and bare.isdigit() and bare.isascii():
        return int(bare)
    return _SMALL_ORDINALS.get(word)


_SMALL_ORDINALS = {
    f"{word}th": value for word, value in _UNITS.items() if value not in (1, 2, 3, 5, 8, 9, 12)
}


def _is_decimal(word: str) -> bool:
    whole, dot, part = word.partition(".")
    return bool(dot) and (whole + part).isdigit() and word.isascii()
