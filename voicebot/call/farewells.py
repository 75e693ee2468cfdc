"""Recognises a caller's farewell: a call that is ending then ends although they spoke."""

from __future__ import annotations

import re
from collections.abc import Mapping

MAX_OTHER_WORDS = 4
"""A farewell with more other words than this needs an answer."""

_WORD = re.compile(r"\w+(?:['’]\w+)*", re.UNICODE)

FAREWELLS: Mapping[str, tuple[str, ...]] = {
    "en": ("goodbye", "good bye", "bye", "bye-bye", "see you", "have a good day", "have a nice day"),
    "de": ("auf wiederhören", "auf wiedersehen", "wiederhören", "tschüss", "tschüs", "ciao", "schönen tag"),
    "fr": ("au revoir", "à bientôt", "bonne journée", "adieu"),
    "es": ("adiós", "adios", "hasta luego", "hasta pronto", "chao"),
    "it": ("arrivederci", "ciao", "buona giornata"),
    "pt": ("tchau", "até logo", "adeus", "até mais"),
    "nl": ("tot ziens", "dag", "doei", "tot horens"),
    "pl": ("do widzenia", "do usłyszenia", "cześć"),
    "cs": ("na shledanou", "nashledanou", "na slyšenou"),
    "sv": ("hej då", "hejdå", "adjö"),
    "da": ("farvel", "hej hej"),
    "nb": ("ha det", "farvel"),
    "fi": ("kuulemiin", "näkemiin", "hei hei"),
    "tr": ("hoşça kal", "hoşça kalın", "görüşürüz", "güle güle"),
    "hi": ("नमस्ते", "अलविदा"),
}
_UNSPACED: Mapping[str, tuple[str, ...]] = {
    "ja": ("さようなら", "失礼します", "失礼いたします"),
    "zh": ("再见", "拜拜"),
    "ko": ("안녕히", "끊을게요"),
}
_MAX_OTHER_CHARACTERS = 10


def is_goodbye(text: str, language: str) -> bool:
    """Whether ``text`` is only a farewell, in a language (BCP 47) or in English."""
    code = language.partition("-")[0].lower()
    if code in _UNSPACED:
        return any(
            word in text and len(text) - len(word) <= _MAX_OTHER_CHARACTERS for word in _UNSPACED[code]
        )
    said = _words(text)
    for farewell in (*FAREWELLS.get(code, ()), *FAREWELLS["en"]):
        wanted = _words(farewell)
        if f" {wanted} " in f" {said} " and len(said.split()) - len(wanted.split()) <= MAX_OTHER_WORDS:
            return "?" not in text
    return False


def _words(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold()))
