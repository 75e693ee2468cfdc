"""Recognises an answering machine, or the call screening of a smartphone, by the words on a call.

A screening service asks who is calling while its owner reads along: that counts as a person.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

Evidence = Literal["machine", "screening"]

MAX_CHARACTERS = 1000
"""How much of an utterance is read."""

_SCREENING = re.compile(
    r"screening|record your name|say your name|who(?: is|['’]s) calling|reason (?:for|you['’]?re) calling"
    r"|why you['’]?re calling|see if (?:this person|they) (?:is|are) available"
    r"|wer ruft an|nennen sie ihren namen|grund (?:ihres|für ihren) anruf"
    r"|qui (?:est à l['’]appareil|appelle)|motif de votre appel"
    r"|quién llama|motivo de (?:su|tu|la) llamada"
)
_MACHINE = re.compile(
    r"(?:after|at) the (?:tone|beep)|leave (?:a|me a|us a|your|your name and a) (?:short )?message"
    r"|record your message|voice ?mail|mailbox|can(?:['’]?t|not) (?:take your call|come to the phone)"
    r"|not available to take your call|(?:person|party|number) you (?:are|have) (?:calling|dialed|called)"
    r"|nach dem (?:signal|ton|piep)|hinterlassen sie|nachricht hinterlassen|anrufbeantworter|sprachbox"
    r"|après le (?:bip|signal)|laissez(?:-moi|-nous)? (?:un|votre) message|messagerie vocale|répondeur"
    r"|después (?:de la señal|del tono)|deje (?:su|un) mensaje|buzón de voz|contestador"
)


def evidence(texts: Iterable[str]) -> Evidence | None:
    """What utterances reveal about who answered; screening takes precedence. None: nothing."""
    read = [text[:MAX_CHARACTERS].casefold() for text in texts]
    if any(_SCREENING.search(text) for text in read):
        return "screening"
    return "machine" if any(_MACHINE.search(text) for text in read) else None
