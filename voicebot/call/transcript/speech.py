"""What an agent is to say and what it is saying: the texts for the TTS, and the utterance that is spoken."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipecat.utils.string import TextPartForConcatenation, concatenate_aggregated_text

from db.utterances import Source
from voicebot.call.agents import ActiveAgent


@dataclass(frozen=True, slots=True, kw_only=True)
class Unspoken:
    """A text, or the end of one, that the caller has not heard although it was to be spoken."""

    text: str
    source: Source
    remembered: bool
    interruptible: bool


@dataclass(slots=True)
class Request:
    """A text for the TTS; what the TTS has made of it so far, and whether an interruption has dropped it."""

    text: str
    source: Source
    remembered: bool = True
    interruptible: bool = True
    has_audio: bool = False
    is_synthesised: bool = False
    is_dropped: bool = False

    def unspoken(self, text: str) -> Unspoken:
        """``text``, which is the request's or its end, as something that is still to be spoken."""
        return Unspoken(
            text=text, source=self.source, remembered=self.remembered, interruptible=self.interruptible
        )


@dataclass(slots=True)
class Speaking:
    """An agent's utterance while it is spoken; it ends when its text is complete and its audio was sent.

    ``heard`` is set when the text is complete, ``ended_ms`` and ``end_position`` when the audio was sent.
    """

    agent: ActiveAgent
    started_ms: int
    start_position: float
    source: Source
    contexts: list[str] = field(default_factory=list)
    words: list[tuple[TextPartForConcatenation, float]] = field(default_factory=list)
    heard: str | None = None
    is_complete: bool = False
    ended_ms: int | None = None
    end_position: float | None = None

    def is_played(self, until: float) -> bool:
        """Whether all of its audio was sent and played, if audio was played up to position ``until``.

        TTS vendors report the last word late: when all audio was heard, all words were heard.
        """
        return self.end_position is not None and until >= self.end_position

    def words_until(self, until: float) -> str:
        """The words of which all was played; a word has been heard when the next one begins."""
        ends = [*(at for _, at in self.words[1:]), float("inf")]
        played = [part for (part, _), end in zip(self.words, ends, strict=False) if end <= until]
        return concatenate_aggregated_text(played)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """An interrupted utterance: the words that were to be said, and those that were heard.

    ``remembered``: pipecat adds the spoken words to the context at its end; otherwise the context has them.
    """

    meant: str
    heard: str
    remembered: bool


def what_follows(heard: str, meant: str) -> str:
    """What follows ``heard`` in ``meant``; spaces are ignored, because vendors split words differently."""
    left = sum(not character.isspace() for character in heard)
    for index, character in enumerate(meant):
        if left == 0:
            return meant[index:].strip()
        left -= not character.isspace()
    return ""
