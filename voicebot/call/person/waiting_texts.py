"""The default texts for a caller who waits for a person, by language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from templates.values import BRACED, render

EXPECTED_WAIT = "expected_wait"
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s*")
_MS_PER_MINUTE = 60_000


@dataclass(frozen=True, slots=True)
class WaitingTexts:
    """The texts in one language."""

    line: str
    """A person is coming. The sentence with ``expected_wait`` is left out if that is unknown."""
    nobody: str
    """Nobody is available, and the alternatives."""
    claimed: str
    """A person has claimed the request."""
    not_reached: str
    """The person who had claimed the request could not be reached; the caller keeps waiting."""
    called_back: str
    number_withheld: str
    """The caller wants to be called back, but their number is not known."""
    goes_on: str
    """The caller goes on with the agent."""
    ended: str
    """The request was closed without a person on the line."""
    minute: str
    """The expected wait: a minute at most."""
    minutes: str
    """The expected wait: ``{}`` minutes."""


def waiting_texts(language: str) -> WaitingTexts:
    """The texts in a language (BCP 47), or in English if there are none."""
    return TEXTS.get(language.partition("-")[0].lower(), TEXTS["en"])


def waiting_line(written: str, values: Mapping[str, Any], language: str, expected_wait_ms: int | None) -> str:
    """The text for a waiting caller.

    Args:
        written: the author's text; empty: the default one. Sentences with ``expected_wait`` are left out
            while it is unknown.
        values: the agent's variables.
        language: BCP 47.
        expected_wait_ms: the expected wait in ms; None: unknown.
    """
    words = waiting_texts(language)
    if expected_wait_ms is not None:
        minutes = -(-expected_wait_ms // _MS_PER_MINUTE)
        wait = words.minute if minutes <= 1 else words.minutes.format(minutes)
        return render(written or words.line, {**values, EXPECTED_WAIT: wait})
    for text in (written, words.line):
        kept = [part for part in _SENTENCE_END.split(text) if part and not _names_wait(part)]
        if kept:
            return render(" ".join(kept), values)
    return words.claimed


def _names_wait(sentence: str) -> bool:
    return any(match.group(1) == EXPECTED_WAIT for match in BRACED.finditer(sentence))


TEXTS: Mapping[str, WaitingTexts] = {
    "en": WaitingTexts(
        line="Somebody will be with you soon. The wait is {{ expected_wait }}. "
        "Press 1 to be called back, or 2 to go on with me.",
        nobody="I'm sorry, nobody is available at the moment. "
        "Press 1 to be called back, or tell me what I can do or note down for you.",
        claimed="A colleague has taken your request and will be with you in a moment.",
        not_reached="I could not reach my colleague just now. "
        "Please stay on the line, or press 1 to be called back.",
        called_back="All right, we will call you back. Is there anything else?",
        number_withheld="I cannot see your number. On which number can we call you back?",
        goes_on="All right, I am here. How can I help?",
        ended="I have you back. How can I help?",
        minute="about a minute",
        minutes="about {} minutes",
    ),
    "de": WaitingTexts(
        line="Es ist gleich jemand für Sie da. Die Wartezeit beträgt {{ expected_wait }}. "
        "Drücken Sie die 1 für einen Rückruf oder die 2, um mit mir weiterzusprechen.",
        nobody="Es tut mir leid, im Moment ist niemand erreichbar. Drücken Sie die 1 für einen Rückruf, "
        "oder sagen Sie mir, was ich für Sie tun oder notieren kann.",
        claimed="Eine Kollegin oder ein Kollege hat Ihr Anliegen übernommen und ist gleich bei Ihnen.",
        not_reached="Ich habe gerade niemanden erreicht. "
        "Bitte bleiben Sie in der Leitung, oder drücken Sie die 1 für einen Rückruf.",
        called_back="Gut, wir rufen Sie zurück. Kann ich noch etwas für Sie tun?",
        number_withheld="Ich sehe Ihre Nummer nicht. Unter welcher Nummer können wir Sie zurückrufen?",
        goes_on="Gut, ich bin da. Wie kann ich helfen?",
        ended="Ich bin wieder für Sie da. Wie kann ich helfen?",
        minute="etwa eine Minute",
        minutes="etwa {} Minuten",
    ),
    "fr": WaitingTexts(
        line="Quelqu'un va bientôt vous répondre. L'attente est de {{ expected_wait }}. "
        "Tapez 1 pour être rappelé, ou 2 pour continuer avec moi.",
        nobody="Je suis désolé, personne n'est disponible pour le moment. Tapez 1 pour être rappelé, "
        "ou dites-moi ce que je peux faire ou noter pour vous.",
        claimed="Un collègue a pris votre demande et sera avec vous dans un instant.",
        not_reached="Je n'ai pas pu joindre mon collègue. Restez en ligne, ou tapez 1 pour être rappelé.",
        called_back="Très bien, nous vous rappellerons. Puis-je faire autre chose ?",
        number_withheld="Je ne vois pas votre numéro. À quel numéro pouvons-nous vous rappeler ?",
        goes_on="Très bien, je suis là. Comment puis-je vous aider ?",
        ended="Je suis de nouveau avec vous. Comment puis-je vous aider ?",
        minute="environ une minute",
        minutes="environ {} minutes",
    ),
    "es": WaitingTexts(
        line="Enseguida le atenderá una persona. La espera es de {{ expected_wait }}. "
        "Pulse 1 para que le llamemos, o 2 para seguir conmigo.",
        nobody="Lo siento, ahora mismo no hay nadie disponible. Pulse 1 para que le llamemos, "
        "o dígame qué puedo hacer o anotar por usted.",
        claimed="Un compañero ha tomado su solicitud y estará con usted en un momento.",
        not_reached="No he podido localizar a mi compañero. Siga en línea, o pulse 1 para que le llamemos.",
        called_back="De acuerdo, le llamaremos. ¿Puedo hacer algo más?",
        number_withheld="No veo su número. ¿A qué número podemos llamarle?",
        goes_on="De acuerdo, aquí estoy. ¿En qué puedo ayudarle?",
        ended="Estoy de nuevo con usted. ¿En qué puedo ayudarle?",
        minute="un minuto, aproximadamente",
        minutes="unos {} minutos",
    ),
    "it": WaitingTexts(
        line="Tra poco le risponderà una persona. L'attesa è di {{ expected_wait }}. "
        "Prema 1 per essere richiamato, o 2 per continuare con me.",
        nobody="Mi dispiace, al momento non c'è nessuno. Prema 1 per essere richiamato, "
        "o mi dica che cosa posso fare o annotare per lei.",
        claimed="Un collega ha preso la sua richiesta e sarà subito da lei.",
        not_reached="Non sono riuscito a raggiungere il mio collega. "
        "Resti in linea, o prema 1 per essere richiamato.",
        called_back="Va bene, la richiameremo. Posso fare altro?",
        number_withheld="Non vedo il suo numero. A quale numero possiamo richiamarla?",
        goes_on="Va bene, sono qui. Come posso aiutarla?",
        ended="Sono di nuovo da lei. Come posso aiutarla?",
        minute="circa un minuto",
        minutes="circa {} minuti",
    ),
    "pt": WaitingTexts(
        line="Em breve uma pessoa irá atender. A espera é de {{ expected_wait }}. "
        "Prima 1 para que liguemos de volta, ou 2 para continuar comigo.",
        nobody="Lamento, neste momento não há ninguém disponível. Prima 1 para que liguemos de volta, "
        "ou diga-me o que posso fazer ou anotar.",
        claimed="Um colega ficou com o seu pedido e estará consigo num momento.",
        not_reached="Não consegui contactar o colega. "
        "Aguarde em linha, ou prima 1 para que liguemos de volta.",
        called_back="Muito bem, ligaremos de volta. Posso ajudar em mais alguma coisa?",
        number_withheld="Não vejo o seu número. Para que número podemos ligar de volta?",
        goes_on="Muito bem, estou aqui. Como posso ajudar?",
        ended="Estou de volta. Como posso ajudar?",
        minute="cerca de um minuto",
        minutes="cerca de {} minutos",
    ),
    "nl": WaitingTexts(
        line="Er komt zo iemand aan de lijn. De wachttijd is {{ expected_wait }}. "
        "Druk op 1 om te worden teruggebeld, of op 2 om met mij verder te gaan.",
        nobody="Het spijt me, er is op dit moment niemand beschikbaar. Druk op 1 om te worden teruggebeld, "
        "of zeg me wat ik voor u kan doen of noteren.",
        claimed="Een collega heeft uw vraag overgenomen en komt zo bij u.",
        not_reached="Ik kon mijn collega niet bereiken. "
        "Blijf aan de lijn, of druk op 1 om te worden teruggebeld.",
        called_back="Goed, we bellen u terug. Kan ik nog iets voor u doen?",
        number_withheld="Ik zie uw nummer niet. Op welk nummer kunnen we u terugbellen?",
        goes_on="Goed, ik ben er. Waarmee kan ik u helpen?",
        ended="Ik ben er weer. Waarmee kan ik u helpen?",
        minute="ongeveer een minuut",
        minutes="ongeveer {} minuten",
    ),
}
"""By language."""
