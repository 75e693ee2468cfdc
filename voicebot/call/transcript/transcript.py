"""The transcript of a call: what was said, by whom, under which template; each utterance once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipecat.utils.string import TextPartForConcatenation

from db.utterances import Speaker, UtteranceRecord
from voicebot.call.agents import ActiveAgent
from voicebot.call.dependencies import CallFacts
from voicebot.call.transcript.order import OrderedUtterances, Said
from voicebot.call.transcript.speech import Cut, Memory, Request, Speaking, ends_a_word, what_follows
from voicebot.call.transcript.tts_requests import TtsRequests

_ALL = float("inf")


class Transcript:
    """The utterances of one call, in the order in which they began.

    Positions are milliseconds of all audio sent; times are milliseconds since the answer.
    """

    def __init__(
        self, call: CallFacts, record: Callable[[UtteranceRecord], None], *, first_seq: int = 1
    ) -> None:
        """Start a transcript.

        Args:
            call: the call it belongs to.
            record: called once with every utterance, in order.
            first_seq: the number of the first utterance, above 1 in a resumed call.
        """
        self._utterances = OrderedUtterances(call, record, first_seq)
        self.requests = TtsRequests()
        """The texts that are to be spoken."""
        self._swallowed: Cut | None = None
        self._unfinished = 0
        self._speaking: Speaking | None = None
        self._unplayed: list[Speaking] = []
        """The utterances that were sent, but are not known to have been played."""

    @property
    def is_speaking(self) -> bool:
        """Whether the audio of an utterance of an agent is being sent."""
        return self._speaking is not None

    @property
    def unheard_since(self) -> float | None:
        """The position at which the first utterance of an agent began that is not recorded; None: all are."""
        return next((each.start_position for each in (*self._unplayed, self._speaking) if each), None)

    @property
    def unplayed_until(self) -> float | None:
        """The position at which the first utterance ends that was sent and waits for :meth:`played`."""
        return self._unplayed[0].end_position if self._unplayed else None

    def caller_began(self, at_ms: int) -> None:
        """The caller's turn began."""
        self._utterances.began("caller", at_ms)

    def caller_ended(self) -> None:
        """The caller's turn ended without words."""
        self._utterances.ended("caller")

    def caller_said(self, text: str, agent: ActiveAgent, *, started_ms: int, ended_ms: int) -> None:
        """The caller finished a turn while ``agent`` had the call."""
        if text.strip():
            said = Said(
                speaker="caller", agent=agent, text=text, heard=text, source="stt",
                started_ms=started_ms, ended_ms=ended_ms,
            )  # fmt: skip
            self._utterances.add(said)
        self._utterances.ended("caller")

    def person_said(
        self, speaker: Speaker, text: str, agent: ActiveAgent, *, started_ms: int, ended_ms: int
    ) -> None:
        """A caller or an operator finished a turn while an operator had the call instead of ``agent``."""
        said = Said(
            speaker=speaker, agent=agent, text=text, heard=text, source="stt",
            started_ms=started_ms, ended_ms=ended_ms,
        )  # fmt: skip
        self._utterances.record(said)

    def audio_started(self, context_id: str, agent: ActiveAgent, *, at_ms: int, position: float) -> None:
        """The first audio of a TTS context was sent, at ``position``."""
        speaking = self._speaking
        if speaking is not None and (speaking.heard is not None or speaking.is_complete):
            if speaking.heard is None:
                speaking.heard = self._meant(speaking)
                self._unfinished += 1
            if speaking.end_position is None:
                speaking.end_position = position
            self._complete(speaking, at_ms)
        if self._speaking is None:
            request = self.requests.get(context_id)
            self._speaking = Speaking(agent, at_ms, position, request.source if request else "llm")
            self._utterances.began("agent", at_ms, position)
        self._speaking.contexts.append(context_id)
        self._speaking.ended_ms = self._speaking.end_position = None

    def word(self, text: str, *, spaced: bool, position: float, is_timed: bool = True) -> None:
        """The audio sent has reached a word.

        ``spaced`` says that the word contains its own spaces, ``is_timed`` that the TTS says when it begins.
        """
        if self._speaking is not None:
            self._speaking.is_timed = self._speaking.is_timed and is_timed
            part = TextPartForConcatenation(text, includes_inter_part_spaces=spaced)
            self._speaking.words.append((part, position))

    def audio_ended(self, *, at_ms: int, position: float | None = None) -> None:
        """The audio of a TTS context was sent, up to ``position``; None: it has also been played."""
        speaking = self._speaking
        if speaking is not None:
            speaking.ended_ms = at_ms
            speaking.end_position = position
            if not self._is_remembered(speaking):
                speaking.heard = self._meant(speaking)
            if speaking.heard is not None:
                self._complete(speaking, at_ms)

    def voice_paused(self, position: float) -> None:
        """The TTS has paused since ``position``: the last word has ended if it is a whole one."""
        speaking = self._speaking
        if speaking is None or speaking.ends_within_word(position):
            return
        if ends_a_word(speaking.words_until(_ALL, lost=True), self._meant(speaking)):
            speaking.paused_at = position

    def text_ended(self) -> None:
        """No more audio belongs to the current utterance; :meth:`agent_finished` follows, perhaps late."""
        if self._speaking is not None and self._speaking.ended_ms is not None:
            self._speaking.is_complete = True

    def agent_finished(self, heard: str, *, at_ms: int) -> None:
        """The text of the current utterance is complete.

        A turn without words was an answer that failed before its first word; it ends no utterance.
        """
        if not heard.strip():
            return
        if self._unfinished:
            self._unfinished -= 1  # that of an utterance which the next one has ended
        elif self._speaking is not None:
            self._speaking.heard = heard
            if self._speaking.ended_ms is not None:
                self._complete(self._speaking, at_ms)

    def played(self, until: float) -> None:
        """All audio up to position ``until`` was played: record the utterances that end there."""
        while self._unplayed and self._unplayed[0].is_played(until):
            self._record(self._unplayed.pop(0))

    def agent_interrupted(self, *, heard_until: float, at_ms: int, lost: bool = False) -> Sequence[Cut]:
        """Speech was interrupted after audio was played up to position ``heard_until``.

        A word counts as heard when all of it was played. The rest is kept as unspoken.

        Args:
            heard_until: up to where audio was played.
            at_ms: when that was.
            lost: whether uninterruptible speech was stopped too.

        Returns:
            The interrupted utterances, in order.
        """
        unplayed, self._unplayed = self._unplayed, []
        cuts = [cut for each in unplayed if (cut := self._cut_sent(each, heard_until, lost)) is not None]
        if self._speaking is not None:
            cuts.append(self._cut(self._speaking, heard_until, at_ms))
        # What an earlier interruption left unspoken comes first.
        self.requests.keep_dropped()
        self._unfinished = 0
        return cuts

    def _cut_sent(self, speaking: Speaking, heard_until: float, lost: bool) -> Cut | None:
        """End an utterance that was sent; the model's context has all of it. None: all of it is heard."""
        sent, request = speaking.heard or "", speaking.request
        is_protected = request is not None and not request.interruptible and not lost
        if is_protected or speaking.is_played(heard_until):
            self._record(speaking)
            return None
        speaking.heard = speaking.words_until(heard_until)
        self.requests.unheard(request, heard=speaking.heard, rest=what_follows(speaking.heard, sent))
        self._record(speaking, interrupted=True)
        return Cut(meant=sent, heard=speaking.heard, memory=_memory(request))

    def _cut(self, speaking: Speaking, heard_until: float, at_ms: int) -> Cut:
        """End the utterance that is being sent."""
        meant = self._meant(speaking)
        whole = speaking.is_played(heard_until)
        passed = meant if whole and meant else speaking.words_until(heard_until, lost=True)
        heard = speaking.words_until(_ALL if whole else heard_until) if speaking.has_lost else passed
        first = self.requests.get(speaking.contexts[0])
        memory: Memory = _memory(first)
        if self._is_remembered(speaking):  # without words, pipecat has nothing to add
            memory = "later" if speaking.words else "never"
        self.requests.unheard(first, heard=heard, rest=what_follows(passed, meant))
        speaking.heard = heard
        self._end(speaking, at_ms)
        self._record(speaking, interrupted=not whole)
        return Cut(meant=meant, heard=heard, memory=memory)

    def _complete(self, speaking: Speaking, at_ms: int) -> None:
        """Text and audio are complete; the utterance is recorded when its audio was played."""
        if speaking.has_lost:
            self._note_lost(speaking)
        self._end(speaking, at_ms)
        if speaking.end_position is None:
            self._record(speaking)
        else:
            self._unplayed.append(speaking)

    def _end(self, speaking: Speaking, at_ms: int) -> None:
        self._speaking = None
        speaking.request = self.requests.get(speaking.contexts[0])
        speaking.meant = self._meant(speaking)
        speaking.ended_ms = at_ms if speaking.ended_ms is None else speaking.ended_ms
        self.requests.spoken(speaking.contexts)

    def _record(self, speaking: Speaking, *, interrupted: bool = False) -> None:
        heard = speaking.heard or ""
        said = Said(
            speaker="agent", agent=speaking.agent, text=speaking.meant or heard, heard=heard,
            source=speaking.source, started_ms=speaking.started_ms, interrupted=interrupted,
            ended_ms=speaking.ended_ms or speaking.started_ms,
        )  # fmt: skip
        self._utterances.add(said)
        self._utterances.ended("agent", speaking.start_position)

    def _note_lost(self, speaking: Speaking) -> None:
        """The TTS has skipped a part of an utterance; keep it as unspoken."""
        spoken, meant = speaking.words_until(_ALL), speaking.heard or ""
        first = self.requests.get(speaking.contexts[0])
        self.requests.unheard(first, heard=spoken, rest=speaking.lost_words())
        self._swallowed = Cut(meant=meant, heard=spoken, memory=_memory(first))
        speaking.heard = spoken

    def take_swallowed(self) -> Cut | None:
        """The utterance that has just ended, if the TTS has skipped a part of it."""
        swallowed, self._swallowed = self._swallowed, None
        return swallowed

    def _meant(self, speaking: Speaking) -> str:
        return " ".join(request.text for request in self.requests.of(speaking.contexts))

    def _is_remembered(self, speaking: Speaking) -> bool:
        requests = self.requests.of(speaking.contexts)
        return not requests or any(request.remembered for request in requests)


def _memory(request: Request | None) -> Memory:
    """Whether the model's context has a text that has been sent."""
    return "already" if request is None or request.is_known else "never"
