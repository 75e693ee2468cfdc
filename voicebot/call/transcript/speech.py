"""The texts for the TTS, and the utterance that an agent is speaking."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from pipecat.utils.string import TextPartForConcatenation, concatenate_aggregated_text

from db.utterances import Source
from voicebot.call.agents import ActiveAgent

Memory = Literal["already", "later", "never"]

_EPSILON_MS = 0.5

FASTEST_MS = 20
"""The shortest time for a character: several words that take less time were not spoken."""

SHORTEST_WORD = 0.6
"""The shortest duration of a word, as a share of the duration that the words before it predict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unspoken:
    """A text, or the rest of one, that was to be spoken and was not heard."""

    text: str
    source: Source
    remembered: bool
    interruptible: bool
    is_announcement: bool = False


@dataclass(slots=True)
class Request:
    """A text for the TTS, the state of its audio, and whether an interruption has dropped it.

    ``remembered``: it enters the model's context when it has been spoken. An announcement of a route is put
    into the context before; what is not heard of it is removed, and added when it is spoken.
    """

    text: str
    source: Source
    remembered: bool = True
    interruptible: bool = True
    is_announcement: bool = False
    has_audio: bool = False
    is_synthesised: bool = False
    is_dropped: bool = False

    @property
    def is_known(self) -> bool:
        """Whether it is in the model's context, now or after it was spoken."""
        return self.remembered or self.is_announcement

    def unspoken(self, text: str) -> Unspoken:
        """``text``, which is the whole request or its rest, as unspoken text."""
        return Unspoken(
            text=text, source=self.source, remembered=self.is_known,
            interruptible=self.interruptible, is_announcement=self.is_announcement,
        )  # fmt: skip


@dataclass(slots=True)
class Speaking:
    """An agent's utterance until its audio was played.

    ``heard`` is set when the text is complete, ``ended_ms`` and ``end_position`` when the audio was sent,
    ``request`` (the first) and ``meant`` (the text of all requests) when both have happened, ``paused_at``
    when the TTS has paused. ``words`` are parts of the text, with the positions at which they begin if the
    TTS reports them.
    """

    agent: ActiveAgent
    started_ms: int
    start_position: float
    source: Source
    contexts: list[str] = field(default_factory=list)
    words: list[tuple[TextPartForConcatenation, float]] = field(default_factory=list)
    is_timed: bool = True
    heard: str | None = None
    is_complete: bool = False
    ended_ms: int | None = None
    end_position: float | None = None
    paused_at: float | None = None
    request: Request | None = None
    meant: str = ""

    def is_played(self, until: float) -> bool:
        """Whether all of its audio was sent and played, if audio was played up to position ``until``.

        TTS vendors report the last word late, so all words count as heard when all audio was heard.
        """
        return self.end_position is not None and until >= self.end_position - _EPSILON_MS

    def words_until(self, until: float, *, lost: bool = False) -> str:
        """The words that were completely played: a word has been heard when the next one begins.

        ``lost``: words without audio are included.
        """
        until += _EPSILON_MS
        return _joined(part for part, end, is_lost in self._parts() if end <= until and (lost or not is_lost))

    @property
    def has_lost(self) -> bool:
        """Whether some of the words have no audio.

        A TTS that skips a sentence reports none of its words. pipecat then pushes the sentence as one part,
        at the position of the next word or of the last one.
        """
        return any(is_lost for _, _, is_lost in self._parts())

    def lost_words(self) -> str:
        """The words without audio."""
        return _joined(part for part, _, is_lost in self._parts() if is_lost)

    def ends_within_word(self, position: float) -> bool:
        """Whether the audio that ends at ``position`` is too short for the last word.

        The pace of the earlier words decides: a TTS may report a whole word and make half of its audio.
        """
        if len(self.words) < 2 or not self.is_timed:
            return False
        (_, first), *_, (last, at) = self.words
        before = sum(len(part.text.strip()) for part, _ in self.words[:-1])
        expected = (at - first) * len(last.text.strip()) / max(before, 1)
        return position - at < SHORTEST_WORD * expected

    def _parts(self) -> list[tuple[TextPartForConcatenation, float, bool]]:
        """Each part, where it ends, and whether it was lost."""
        known = (self.end_position, self.paused_at, float("inf"))
        end = next(position for position in known if position is not None)
        ends = [*(at for _, at in self.words[1:]), end]
        return [
            (part, ends_at, self.is_timed and _takes_longer(part.text.strip(), ends_at - at))
            for (part, at), ends_at in zip(self.words, ends, strict=False)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """An interrupted utterance: its whole text, and what was heard of it.

    ``memory``: whether the model's context has the words ``already``, ``later`` (the interruption makes
    pipecat add the words that it considers spoken) or ``never``.
    """

    meant: str
    heard: str
    memory: Memory


def _takes_longer(text: str, ms: float) -> bool:
    """Whether ``ms`` is too short for several words."""
    return " " in text and ms < len(text) * FASTEST_MS and any(map(str.isalnum, text))


def _joined(parts: Iterable[TextPartForConcatenation]) -> str:
    return concatenate_aggregated_text(list(parts))


def what_follows(heard: str, meant: str) -> str:
    """What follows ``heard`` in ``meant``; spaces are ignored, because vendors split words differently."""
    return meant[_length(heard, meant) :].strip()


def ends_a_word(heard: str, meant: str) -> bool:
    """Whether a word of ``meant`` ends where ``heard`` does."""
    return not meant[_length(heard, meant) :][:1].strip()


def _length(heard: str, meant: str) -> int:
    """How much of ``meant`` are the words ``heard``."""
    left = sum(not character.isspace() for character in heard)
    for index, character in enumerate(meant):
        if left == 0:
            return index
        left -= not character.isspace()
    return len(meant)
