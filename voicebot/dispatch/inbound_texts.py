"""Texts that callers hear before an agent answers, in the language of the number's first agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InboundTexts:
    """The texts in one language; ``choice`` has the placeholders ``{name}`` and ``{key}``."""

    choice: str
    refused: str
    """We do not take the call."""
    promise: str
    """We call back."""

    @property
    def callback(self) -> str:
        """The call is refused; the caller will be called back."""
        return f"{self.refused} {self.promise}"


def inbound_texts(language: str) -> InboundTexts:
    """The texts in a language (BCP 47), or in English if there are none."""
    return _TEXTS.get(language.partition("-")[0].lower(), _TEXTS["en"])


def menu_text(names: Sequence[str], language: str) -> str:
    """The text of a menu: each name with its key, from 1."""
    choice = inbound_texts(language).choice
    return " ".join(choice.format(name=name, key=key) for key, name in enumerate(names, 1))


_TEXTS: Mapping[str, InboundTexts] = {
    "en": InboundTexts("For {name}, press {key}.", "We cannot take your call now.", "We will call you back."),
    "de": InboundTexts(
        "Für {name} drücken Sie die {key}.",
        "Wir können Ihren Anruf gerade nicht annehmen.",
        "Wir rufen Sie zurück.",
    ),
    "fr": InboundTexts(
        "Pour {name}, appuyez sur {key}.",
        "Nous ne pouvons pas prendre votre appel.",
        "Nous vous rappellerons.",
    ),
    "es": InboundTexts(
        "Para {name}, pulse {key}.", "No podemos atender su llamada ahora.", "Le devolveremos la llamada."
    ),
    "it": InboundTexts("Per {name}, prema {key}.", "Non possiamo rispondere ora.", "La richiameremo."),
    "pt": InboundTexts("Para {name}, prima {key}.", "Não podemos atender agora.", "Ligaremos de volta."),
}
