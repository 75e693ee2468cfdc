"""The phrases that callers may say, as a grammar and a pronunciation dictionary for pocketsphinx."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from pocketsphinx import get_model_path

from voicebot.sandbox.speech.synthesis import pronounce

_CLAUSE_END = re.compile(r"(?<=[.,;:!?])\s+")
_MOST_CLAUSES = 8
_MOST_PRONUNCIATIONS = 4

# IPA as espeak-ng writes American English, longest first, in the phones of the CMU dictionary.
_PHONES: Mapping[str, tuple[str, ...]] = {
    "aɪɚ": ("AY ER",), "aʊɚ": ("AW ER",), "tʃ": ("CH",), "dʒ": ("JH",), "aɪ": ("AY",), "aʊ": ("AW",),
    "eɪ": ("EY",), "oʊ": ("OW",), "ɔɪ": ("OY",), "ɜː": ("ER",), "n̩": ("AH N",), "l̩": ("AH L",), "ɑː": ("AA",),
    "ɔː": ("AO",), "iː": ("IY",), "uː": ("UW",), "ɚ": ("ER",), "ɹ": ("R",), "r": ("R",), "ɾ": ("T", "D"),
    "ʔ": ("T",), "æ": ("AE",), "ʌ": ("AH",), "ə": ("AH",), "ɐ": ("AH",), "ɪ": ("IH",), "i": ("IY",),
    "ɛ": ("EH",), "ʊ": ("UH",), "u": ("UW",), "ɔ": ("AO",), "ɑ": ("AA",), "a": ("AA",), "e": ("EY",),
    "o": ("OW",), "ᵻ": ("IH",), "θ": ("TH",), "ð": ("DH",), "ʃ": ("SH",), "ʒ": ("ZH",), "ŋ": ("NG",),
    "j": ("Y",), "ɡ": ("G",), "g": ("G",), "x": ("K",), "ç": ("SH",), "ɬ": ("L",), "b": ("B",), "d": ("D",),
    "f": ("F",), "h": ("HH",), "k": ("K",), "l": ("L",), "m": ("M",), "n": ("N",), "p": ("P",), "s": ("S",),
    "t": ("T",), "v": ("V",), "w": ("W",), "z": ("Z",),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PhraseGrammar:
    """The phrases that a recogniser can recognise.

    Each word of each phrase is a separate word of the grammar, so that a recognised word identifies its
    phrase and its position, and has the spelling of its author.

    Attributes:
        phrases: the phrases that callers may say.
        written: word of the grammar → how it is written, with its punctuation.
        alternatives: runs of whole clauses, because callers pause between clauses.
        pronunciations: word of the grammar → phones, in one or more ways.
    """

    phrases: tuple[str, ...]
    written: Mapping[str, str]
    alternatives: tuple[tuple[str, ...], ...]
    pronunciations: Mapping[str, tuple[str, ...]]

    @staticmethod
    def of(phrases: Iterable[str]) -> PhraseGrammar:
        """Prepare phrases; takes about 50 ms. Words that no dictionary has are pronounced by espeak-ng."""
        kept = tuple(dict.fromkeys(" ".join(phrase.split()) for phrase in phrases if phrase.strip()))
        written: dict[str, str] = {}
        alternatives: list[tuple[str, ...]] = []
        for number, phrase in enumerate(kept):
            clauses = list(_clauses(number, phrase, written))
            alternatives.extend(_runs(clauses))
        spoken = {word: bare(text) for word, text in written.items()}
        known = _dictionary(frozenset(spoken.values()))
        ways = {text: _ways(text, known.get(text, ())) for text in set(spoken.values())}
        return PhraseGrammar(
            phrases=kept,
            written=written,
            alternatives=tuple(alternatives),
            pronunciations={word: ways[text] for word, text in spoken.items()},
        )

    def grammar(self) -> str:
        """Return the grammar in JSGF."""
        choices = " | ".join(" ".join(words) for words in self.alternatives)
        return f"#JSGF V1.0;\ngrammar phrases;\npublic <phrase> = {choices} ;\n"

    def dictionary(self) -> str:
        """Return the dictionary in pocketsphinx's format."""
        return "".join(
            f"{word}{f'({index})' if index else ''} {phones}\n"
            for word, ways in self.pronunciations.items()
            for index, phones in enumerate(ways)
        )

    def whole(self, words: tuple[str, ...]) -> bool:
        """Tell whether these words end where a clause does."""
        return words in self.alternatives


def bare(text: str) -> str:
    """Return a word without its punctuation, in lower case."""
    return text.lower().replace("’", "'").strip('.,;:!?"“”()…-') or text.lower()


def _clauses(number: int, phrase: str, written: dict[str, str]) -> Iterator[tuple[str, ...]]:
    """Name the words of each clause after their place, and note how they are written."""
    place = 0
    for clause in _CLAUSE_END.split(phrase):
        words = []
        for text in re.split(r"\s+|(?<=\w)-(?=\w)", clause):
            if not pronounceable(bare(text)):
                continue
            word = f"p{number}w{place}"
            written[word] = text
            words.append(word)
            place += 1
        if words:
            yield tuple(words)


def _runs(clauses: list[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    for start in range(len(clauses)):
        for end in range(start + 1, min(len(clauses), start + _MOST_CLAUSES) + 1):
            yield tuple(word for clause in clauses[start:end] for word in clause)


def pronounceable(text: str) -> bool:
    """Tell whether a word has a pronunciation."""
    return bool(_espeak_ways(text))


def _ways(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*_espeak_ways(text), *known)))[:_MOST_PRONUNCIATIONS]


@lru_cache(maxsize=4096)
def _espeak_ways(text: str) -> tuple[str, ...]:
    """Return how espeak-ng pronounces a word, in CMU's phones; empty without a pronunciation."""
    if not any(character.isalnum() for character in text):
        return ()
    ipa, at, parts = pronounce(text), 0, list[tuple[str, ...]]()
    while at < len(ipa):
        symbol = next((symbol for symbol in _PHONES if ipa.startswith(symbol, at)), "")
        if symbol:
            parts.append(_PHONES[symbol])
        at += len(symbol) or 1
    choices = [part if sum(len(p) > 1 for p in parts) <= 2 else part[:1] for part in parts]
    return tuple(" ".join(way) for way in product(*choices)) if parts else ()


def _dictionary(words: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """Look words up in the CMU dictionary that comes with pocketsphinx."""
    found: dict[str, tuple[str, ...]] = {}
    with open(get_model_path("en-us/cmudict-en-us.dict"), encoding="utf-8") as lines:
        for line in lines:
            word, _, phones = line.rstrip().partition(" ")
            word = word.partition("(")[0]
            if word in words:
                found[word] = (*found.get(word, ()), phones)
    return found
