"""What an operator hears before they accept a caller: who, what, and what was tried, in 15 s at most."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from db.handoffs import HandoffRecord

MAX_CHARACTERS = 200
"""Carriers' voices speak 14 to 16 characters a second, so that this takes less than 15 s."""

_NAMES = ("caller_name", "customer_name", "full_name", "name", "first_name")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class _Words:
    caller: str
    number: str
    tried: str
    keys: str


_WORDS: Mapping[str, _Words] = {
    "en": _Words("A caller", "with a number ending in", "Tried:", "Press 1 to accept."),
    "de": _Words("Ein Anrufer", "mit der Endnummer", "Versucht:", "Zum Annehmen die 1 drücken."),
    "fr": _Words("Un appelant", "au numéro finissant par", "Essayé :", "Appuyez sur 1 pour accepter."),
    "es": _Words("Un cliente", "con número terminado en", "Se intentó:", "Pulse 1 para aceptar."),
    "it": _Words("Un cliente", "con numero che finisce in", "Tentato:", "Prema 1 per accettare."),
    "pt": _Words("Um cliente", "com número terminado em", "Tentado:", "Prima 1 para aceitar."),
    "nl": _Words("Een beller", "met nummer eindigend op", "Geprobeerd:", "Toets 1 om aan te nemen."),
}


def whisper_language(handoff: HandoffRecord) -> str:
    """The language (BCP 47) of the text: the handoff's, or English where there are no words of it."""
    language = handoff.language or "en-US"
    return language if language.partition("-")[0].lower() in _WORDS else "en-US"


def whisper_text(handoff: HandoffRecord, snapshot: Mapping[str, Any]) -> str:
    """The text; the caller's words and numbers are shortened, never the instruction about the key."""
    words = _WORDS[whisper_language(handoff).partition("-")[0].lower()]
    tried = ", ".join(dict.fromkeys(call["name"] for call in snapshot.get("functions", []) if call["name"]))
    parts = [f"{_who(words, snapshot)}: {handoff.reason}"]
    if tried:
        parts.append(f"{words.tried} {tried.replace('_', ' ')}")
    room = MAX_CHARACTERS - len(words.keys) - 1
    return f"{_shortened('. '.join(part.rstrip(' .') for part in parts), room)}. {words.keys}"


def _who(words: _Words, snapshot: Mapping[str, Any]) -> str:
    variables = snapshot.get("variables") or {}
    for name in _NAMES:
        value = variables.get(name)
        if isinstance(value, str) and value.strip():
            return _shortened(value, 40)
    phone = (snapshot.get("lead") or {}).get("phone") or ""
    return f"{words.caller} {words.number} {' '.join(phone[-4:])}" if phone else words.caller


def _shortened(text: str, length: int) -> str:
    text = _SPACE.sub(" ", text).strip()
    return text if len(text) <= length else text[: length - 1].rpartition(" ")[0].rstrip(" ,;:")
