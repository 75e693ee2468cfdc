"""The text that a person hears before they accept a caller: who calls, why, and what was tried, in 15 s."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from db.handoffs import HandoffRecord
from voicebot.handoffs.call_snapshot import CallSnapshot

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


@dataclass(frozen=True, slots=True)
class WhisperText:
    """The text, and its language (BCP 47)."""

    text: str
    language: str


def operator_whisper(handoff: HandoffRecord, snapshot: Mapping[str, Any]) -> WhisperText:
    """The text for the operator of a handoff, in the handoff's language or in English."""
    return _whisper(handoff.language, handoff.reason, snapshot)


def destination_whisper(snapshot: CallSnapshot) -> WhisperText:
    """The text at a destination of a template: who calls, what they said last, and what was tried."""
    said = [each["text"] for each in snapshot.document["transcript"] if each["speaker"] == "caller"]
    return _whisper(snapshot.language, said[-1] if said else "", snapshot.document)


def _whisper(language: str | None, problem: str, snapshot: Mapping[str, Any]) -> WhisperText:
    """Shorten the caller's words and the functions, but never the instruction about the key."""
    language = language or "en-US"
    if language.partition("-")[0].lower() not in _WORDS:
        language = "en-US"
    words = _WORDS[language.partition("-")[0].lower()]
    tried = ", ".join(dict.fromkeys(call["name"] for call in snapshot.get("functions", []) if call["name"]))
    parts = [": ".join(filter(None, (_who(words, snapshot), problem)))]
    if tried:
        parts.append(f"{words.tried} {tried.replace('_', ' ')}")
    room = MAX_CHARACTERS - len(words.keys) - 1
    text = f"{_shortened('. '.join(part.rstrip(' .') for part in parts), room)}. {words.keys}"
    return WhisperText(text, language)


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
