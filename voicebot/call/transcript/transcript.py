"""The transcript of a call: what was said, by whom, under which template; each utterance once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipecat.utils.string import TextPartForConcatenation

from db.utterances import Source, Speaker, UtteranceRecord
from voicebot.call.agents import ActiveAgent
from voicebot.call.dependencies import CallFacts
from voicebot.call.transcript.order import OrderedUtterances, Said
from voicebot.call.transcript.speech import Cut, Request, Speaking, Unspoken, what_follows


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
        self._expected: dict[str, Request] = {}
        self._requests: dict[str, Request] = {}
        self._unspoken: tuple[Unspoken, ...] = ()
        self._swallowed: Cut | None = None
        self._ahead: tuple[str, str] | None = None
        """The latest text that the model's context has before it is spoken, and what is heard of it."""
        self._unfinished = 0
        self._model_characters = 0
        self._speaking: Speaking | None = None

    @property
    def speaking_since(self) -> float | None:
        """The position at which the current utterance of an agent began; None while no agent speaks."""
        return self._speaking.start_position if self._speaking else None

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

    @property
    def is_synthesising(self) -> bool:
        """Whether the TTS has not yet made all the audio of what it was sent."""
        return any(not request.is_synthesised for request in self._requests.values())

    @property
    def owes_audio(self) -> bool:
        """Whether the TTS has made no audio of a text that it was sent, or not all of one that is ours."""
        return any(
            not request.is_synthesised and (request.source != "llm" or not request.has_audio)
            for request in self._requests.values()
        )

    @property
    def is_waiting_for_tts(self) -> bool:
        """Whether a text has not been synthesised, or has not even reached the TTS."""
        return self.is_synthesising or bool(self._expected)

    @property
    def has_partial_audio(self) -> bool:
        """Whether audio of a text may be on its way that has to be dropped when the TTS fails.

        A filler that is complete is not a part of what the TTS owes.
        """
        return any(
            request.has_audio and (request.remembered or not request.is_synthesised)
            for request in self._requests.values()
        )

    @property
    def model_characters(self) -> int:
        """How many characters, without spaces, of the model's words the TTS has spoken or is to speak."""
        return self._model_characters

    @property
    def is_protected(self) -> bool:
        """Whether something that must not be interrupted is spoken, or is about to be."""
        return any(not request.interruptible for request in self._requests.values())

    @property
    def has_unspoken(self) -> bool:
        """Whether speech was cut off or lost that nothing has replaced yet."""
        return bool(self._unspoken)

    def forget_unspoken(self) -> None:
        """What was cut off is not to be spoken any more."""
        self._unspoken = ()

    def take_swallowed(self) -> Cut | None:
        """The utterance that has just ended, if the TTS has swallowed a part of it."""
        swallowed, self._swallowed = self._swallowed, None
        return swallowed

    def is_answer(self, context_id: str) -> bool:
        """Whether a TTS context answers the caller; a filler, an apology or an announcement does not."""
        request = self._requests.get(context_id)
        return request is None or (request.remembered and not request.is_announcement)

    def as_heard(self, text: str) -> str:
        """What the caller has heard, or will hear, of a text that is in the model's context ahead."""
        return self._ahead[1] if self._ahead is not None and self._ahead[0] == text else text

    def take_unspoken(self) -> Sequence[Unspoken]:
        """What was cut off or lost, in order, for speaking it again; it is forgotten here."""
        unspoken, self._unspoken = self._unspoken, ()
        return unspoken

    def expect(
        self,
        text: str,
        source: Source,
        *,
        remembered: bool = True,
        interruptible: bool = True,
        is_announcement: bool = False,
    ) -> None:
        """``text`` is about to be sent to the TTS by us, not by the model; see :meth:`requested`.

        The model's context has an announcement that is not ``remembered`` ahead; see :meth:`as_heard`.
        """
        self._expected[_words(text)] = Request(text, source, remembered, interruptible, is_announcement)
        if is_announcement and not remembered:
            self._ahead = text, text

    async def on_request(self, context_id: str, text: str) -> None:
        """The TTS service was sent ``text``, which is the model's unless it was expected."""
        expected = self._expected.pop(_words(text), None)
        if expected is None:
            self._model_characters += sum(not character.isspace() for character in text)
        self._request(context_id, expected or Request(text, "llm"))

    def requested(
        self,
        context_id: str,
        text: str,
        source: Source = "llm",
        *,
        remembered: bool = True,
        interruptible: bool = True,
    ) -> None:
        """``text`` is to be spoken in a TTS context.

        What is not ``remembered`` by the model is complete with its audio: no turn of the model ends with it.
        """
        self._request(context_id, Request(text, source, remembered, interruptible))

    def _request(self, context_id: str, request: Request) -> None:
        before = self._requests.get(context_id)
        if before is not None:
            request.text = f"{before.text} {request.text}"
            request.has_audio = before.has_audio
        self._requests[context_id] = request

    def audio_made(self, context_id: str) -> None:
        """The TTS has made audio in a context."""
        if context_id in self._requests:
            self._requests[context_id].has_audio = True

    def synthesised(self, context_id: str) -> None:
        """The TTS says that a context is complete; one without audio is not, if it has words."""
        request = self._requests.get(context_id)
        if request is None:
            return
        if not any(map(str.isalnum, request.text)):
            del self._requests[context_id]
        request.is_synthesised = request.has_audio

    def audio_started(self, context_id: str, agent: ActiveAgent, *, at_ms: int, position: float) -> None:
        """The first audio of a TTS context was sent, at ``position``."""
        speaking = self._speaking
        if speaking is not None and (speaking.heard is not None or speaking.is_complete):
            if speaking.heard is None:
                speaking.heard = self._meant(speaking)
                self._unfinished += 1
            self._close(at_ms)
        if self._speaking is None:
            request = self._requests.get(context_id)
            source: Source = request.source if request else "llm"
            self._speaking = Speaking(agent, at_ms, position, source)
            self._utterances.began("agent", at_ms)
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
        """The audio of a TTS context was sent, up to ``position``."""
        if self._speaking is not None:
            self._speaking.ended_ms = at_ms
            self._speaking.end_position = position
            if not self._is_remembered(self._speaking):
                self._speaking.heard = self._meant(self._speaking)
            if self._speaking.heard is not None:
                self._close(at_ms)

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
                self._close(at_ms)

    def interruption_passes(self, *, lost: bool = False) -> None:
        """An interruption has left the TTS, which has dropped what it was asked to speak.

        The transcript hears of the interruption later, from :meth:`agent_interrupted`; what the TTS is asked
        to speak in between is not dropped. ``lost``: what the caller cannot interrupt is dropped too.
        """
        for request in (*self._requests.values(), *self._expected.values()):
            request.is_dropped = lost or request.interruptible
        if not lost:
            self._model_characters = 0

    def interruption_stopped(self) -> None:
        """What is spoken goes on, but the TTS has dropped what was to follow it."""
        self._unspoken = (*self._unspoken, *self._take_dropped())

    def nothing_made(self) -> None:
        """The TTS has failed before it made audio of what it owes; what is complete is spoken to its end."""
        for request in (*self._requests.values(), *self._expected.values()):
            request.is_dropped = not request.is_synthesised
        self._unspoken = (*self._unspoken, *self._take_dropped())

    def agent_interrupted(self, *, heard_until: float, at_ms: int) -> Cut | None:
        """What was to be spoken was interrupted; audio was played up to position ``heard_until``.

        A word counts as heard when all of it was played. What was not heard is kept as unspoken.

        Returns:
            What was cut off; None when no agent was speaking.
        """
        cut: Cut | None = None
        unspoken: list[Unspoken] = []
        if self._speaking is not None:
            cut, rest = self._cut(self._speaking, heard_until, at_ms)
            unspoken += rest
        # What an earlier interruption left is still to be spoken, and comes first.
        self._unspoken = (*self._unspoken, *unspoken, *self._take_dropped())
        self._unfinished = 0
        return cut

    def _take_dropped(self) -> list[Unspoken]:
        dropped = []
        for waiting in (self._requests, self._expected):
            for key, request in list(waiting.items()):
                if request.is_dropped:
                    self._note_ahead(request, "")
                    dropped.append(request.unspoken(request.text))
                    del waiting[key]
        return dropped

    def _note_ahead(self, request: Request | None, heard: str) -> None:
        if request is not None and request.is_announcement and self._ahead is not None:
            self._ahead = self._ahead[0], heard

    def _cut(self, speaking: Speaking, heard_until: float, at_ms: int) -> tuple[Cut, Sequence[Unspoken]]:
        """End an utterance that was interrupted; return what was heard of it, and what was not."""
        meant = self._meant(speaking)
        whole = speaking.is_played(heard_until)
        passed = meant if whole and meant else speaking.words_until(heard_until, lost=True)
        heard = speaking.words_until(float("inf") if whole else heard_until) if speaking.has_lost else passed
        rest = what_follows(passed, meant)
        first = self._requests.get(speaking.contexts[0])
        cut = Cut(meant=meant, heard=heard, remembered=self._is_remembered(speaking))
        self._note_ahead(first, heard)
        speaking.heard = heard
        self._close(at_ms, interrupted=not whole)
        return cut, [first.unspoken(rest)] if first is not None and rest else []

    def _close(self, at_ms: int, *, interrupted: bool = False) -> None:
        speaking = self._speaking
        if speaking is None:
            return
        self._speaking = None
        heard = speaking.heard or ""
        meant = self._meant(speaking) or heard
        if speaking.has_lost and not interrupted:
            heard = self._note_lost(speaking)
        for context_id in speaking.contexts:
            self._requests.pop(context_id, None)
        said = Said(
            speaker="agent", agent=speaking.agent, text=meant, heard=heard, source=speaking.source,
            started_ms=speaking.started_ms, interrupted=interrupted,
            ended_ms=at_ms if speaking.ended_ms is None else speaking.ended_ms,
        )  # fmt: skip
        self._utterances.add(said)
        self._utterances.ended("agent")

    def _note_lost(self, speaking: Speaking) -> str:
        """The TTS has swallowed a part of an utterance, which is still to be spoken; return the rest."""
        first, spoken = self._requests.get(speaking.contexts[0]), speaking.words_until(float("inf"))
        if first is not None:
            self._unspoken = (*self._unspoken, first.unspoken(speaking.lost_words()))
        self._note_ahead(first, spoken)
        remembered = self._is_remembered(speaking)
        self._swallowed = Cut(meant=speaking.heard or "", heard=spoken, remembered=remembered)
        return spoken

    def _meant(self, speaking: Speaking) -> str:
        return " ".join(self._requests[c].text for c in speaking.contexts if c in self._requests)

    def _is_remembered(self, speaking: Speaking) -> bool:
        requests = [self._requests[c] for c in speaking.contexts if c in self._requests]
        return not requests or any(request.remembered for request in requests)


def _words(text: str) -> str:
    """A text as it is compared: services strip what they are given."""
    return " ".join(text.split())
