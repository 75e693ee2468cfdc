"""The transcript of a call: what was said, by whom, under which template; each utterance once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pipecat.utils.string import TextPartForConcatenation, concatenate_aggregated_text

from db.ids import new_id
from db.utterances import Source, Speaker, UtteranceRecord
from voicebot.call.agents import ActiveAgent
from voicebot.call.dependencies import CallFacts


@dataclass(slots=True)
class _Speaking:
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
    ended_ms: int | None = None
    end_position: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """An interrupted utterance: the words that were to be said, and those that were heard.

    ``remembered``: pipecat adds the spoken words to the context at its end; otherwise the context has them.
    """

    meant: str
    heard: str
    remembered: bool


class Transcript:
    """The utterances of one call, in the order in which they began.

    What the caller says while an agent speaks is recorded when the agent's utterance, which began first, is.

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
        self._call = call
        self._record = record
        self._next_seq = first_seq
        self._expected: dict[str, tuple[Source, bool]] = {}
        self._requested: dict[str, str] = {}
        self._sources: dict[str, Source] = {}
        self._unremembered: set[str] = set()
        self._speaking: _Speaking | None = None
        self._waiting: list[tuple[ActiveAgent, str, tuple[int, int]]] = []

    @property
    def speaking_since(self) -> float | None:
        """The position at which the current utterance of an agent began; None while no agent speaks."""
        return self._speaking.start_position if self._speaking else None

    def caller_said(self, text: str, agent: ActiveAgent, *, started_ms: int, ended_ms: int) -> None:
        """The caller finished a turn while ``agent`` had the call."""
        if not text.strip():
            return
        self._waiting.append((agent, text, (started_ms, ended_ms)))
        if self._speaking is None or self._speaking.started_ms > started_ms:
            self._add_waiting()

    def expect(self, text: str, source: Source, *, remembered: bool = True) -> None:
        """``text`` is about to be sent to the TTS by us, not by the model; see :meth:`requested`."""
        self._expected[text] = (source, remembered)

    async def on_request(self, context_id: str, text: str) -> None:
        """The TTS service was sent ``text``, which is the model's unless it was expected."""
        if text in self._expected:
            source, remembered = self._expected.pop(text)
            self.requested(context_id, text, source, remembered=remembered)
        else:
            self.requested(context_id, text)

    def requested(
        self, context_id: str, text: str, source: Source | None = None, *, remembered: bool = True
    ) -> None:
        """``text`` is to be spoken in a TTS context.

        What is not ``remembered`` by the model is complete with its audio: no turn of the model ends with it.
        """
        if not remembered:
            self._unremembered.add(context_id)
        before = self._requested.get(context_id)
        self._requested[context_id] = f"{before} {text}" if before else text
        if source is not None:
            self._sources[context_id] = source

    def audio_started(self, context_id: str, agent: ActiveAgent, *, at_ms: int, position: float) -> None:
        """The first audio of a TTS context was sent, at ``position``."""
        if self._speaking is not None and self._speaking.heard is not None:
            self._close(at_ms)
        if self._speaking is None:
            self._speaking = _Speaking(agent, at_ms, position, self._sources.get(context_id, "llm"))
        self._speaking.contexts.append(context_id)
        self._speaking.ended_ms = self._speaking.end_position = None

    def word(self, text: str, *, spaced: bool, position: float) -> None:
        """The audio sent has reached a word; ``spaced`` says that the word contains its own spaces."""
        if self._speaking is not None:
            part = TextPartForConcatenation(text, includes_inter_part_spaces=spaced)
            self._speaking.words.append((part, position))

    def audio_ended(self, *, at_ms: int, position: float | None = None) -> None:
        """The audio of a TTS context was sent, up to ``position``."""
        if self._speaking is not None:
            self._speaking.ended_ms = at_ms
            self._speaking.end_position = position
            if self._unremembered.issuperset(self._speaking.contexts):
                self._speaking.heard = self._meant(self._speaking)
            if self._speaking.heard is not None:
                self._close(at_ms)

    def agent_finished(self, heard: str, *, at_ms: int) -> None:
        """The text of the current utterance is complete."""
        if self._speaking is not None:
            self._speaking.heard = heard
            if self._speaking.ended_ms is not None:
                self._close(at_ms)

    def agent_interrupted(self, *, heard_until: float, at_ms: int) -> Cut | None:
        """The current utterance was interrupted; its audio was played up to position ``heard_until``.

        Returns:
            What was cut off; None when no agent was speaking.
        """
        speaking = self._speaking
        if speaking is None:
            return None
        meant = self._meant(speaking)
        heard = concatenate_aggregated_text([part for part, at in speaking.words if at <= heard_until])
        # TTS vendors report the last word late: when all audio was heard, all words were heard.
        whole = speaking.end_position is not None and heard_until >= speaking.end_position
        speaking.heard = heard = meant if whole and meant else heard
        remembered = not self._unremembered.issuperset(speaking.contexts)
        cut = Cut(meant=meant, heard=heard, remembered=remembered)
        self._close(at_ms, interrupted=not whole)
        return cut

    def _close(self, at_ms: int, *, interrupted: bool = False) -> None:
        speaking = self._speaking
        if speaking is None:
            return
        self._speaking = None
        heard = speaking.heard or ""
        meant = self._meant(speaking) or heard
        for context_id in speaking.contexts:
            self._requested.pop(context_id, None)
        ended_ms = at_ms if speaking.ended_ms is None else speaking.ended_ms
        self._add(
            "agent", speaking.agent, meant, heard,
            source=speaking.source, span=(speaking.started_ms, ended_ms), interrupted=interrupted,
        )  # fmt: skip
        self._add_waiting()

    def _add_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for agent, text, span in waiting:
            self._add("caller", agent, text, text, source="stt", span=span)

    def _meant(self, speaking: _Speaking) -> str:
        return " ".join(filter(None, (self._requested.get(c) for c in speaking.contexts)))

    def _add(
        self,
        speaker: Speaker,
        agent: ActiveAgent,
        text: str,
        heard: str,
        *,
        source: Source,
        span: tuple[int, int],
        interrupted: bool = False,
    ) -> None:
        utterance = UtteranceRecord(
            id=new_id(),
            account_id=self._call.account_id,
            call_id=self._call.id,
            seq=self._next_seq,
            speaker=speaker,
            template_id=agent.template_id,
            node=agent.node,
            text=text,
            heard_text=heard,
            interrupted=interrupted,
            source=source,
            started_ms=span[0],
            ended_ms=max(span),
        )
        self._next_seq += 1
        self._record(utterance)
