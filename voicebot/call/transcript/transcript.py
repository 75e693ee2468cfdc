"""What was said, by whom, under which template: each utterance once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from pipecat.utils.string import TextPartForConcatenation, concatenate_aggregated_text

from db.ids import new_id

Speaker = Literal["caller", "agent", "operator", "system"]
Source = Literal["stt", "llm", "greeting", "filler"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveAgent:
    """Who speaks for us at a moment: a template and one of its nodes."""

    template_id: UUID
    node: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One thing said. ``text`` is what was meant to be said, ``heard_text`` what reached the other side.

    Times are milliseconds since the answer.
    """

    id: UUID
    seq: int
    speaker: Speaker
    template_id: UUID
    node: str | None
    text: str
    heard_text: str
    interrupted: bool
    source: Source
    started_ms: int
    ended_ms: int


@dataclass(slots=True)
class _Speaking:
    """An utterance of ours while it sounds; it is over when its text is complete and its audio is out."""

    role: ActiveAgent
    started_ms: int
    begins_at: float
    source: Source
    contexts: list[str] = field(default_factory=list)
    words: list[tuple[TextPartForConcatenation, float]] = field(default_factory=list)
    heard: str | None = None
    silent_ms: int | None = None
    ends_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What was meant to be said, and what was heard of it before an interruption.

    ``remembered``: pipecat's own memory takes it in; else it is there already, as it was meant.
    """

    meant: str
    heard: str
    remembered: bool


class Transcript:
    """The one list of a call's utterances; ``record`` is called once for each, in order."""

    def __init__(self, record: Callable[[Utterance], None], *, first_seq: int = 1) -> None:
        """``first_seq`` is above 1 when the call goes on after its stream was lost."""
        self._record = record
        self._next_seq = first_seq
        self._requested: dict[str, str] = {}
        self._sources: dict[str, Source] = {}
        self._unremembered: set[str] = set()
        self._speaking: _Speaking | None = None

    @property
    def speaking_since(self) -> float | None:
        """Where our utterance began, in ms of all audio sent; None while we are silent."""
        return self._speaking.begins_at if self._speaking else None

    def caller_said(self, text: str, role: ActiveAgent, *, started_ms: int, ended_ms: int) -> None:
        """The caller finished a turn while ``role`` had the call."""
        if text.strip():
            self._add("caller", role, text, text, source="stt", span=(started_ms, ended_ms))

    def requested(
        self, context_id: str, text: str, source: Source | None = None, *, remembered: bool = True
    ) -> None:
        """``text`` was sent to be spoken under a TTS context id.

        What is not ``remembered`` by the model is complete with its audio: no turn of the model ends with it.
        """
        if not remembered:
            self._unremembered.add(context_id)
        before = self._requested.get(context_id)
        self._requested[context_id] = f"{before} {text}" if before else text
        if source is not None:
            self._sources[context_id] = source

    def sounding(self, context_id: str, role: ActiveAgent, *, at_ms: int, position: float) -> None:
        """The first audio of a TTS context went out, at ``position`` ms of all audio sent."""
        if self._speaking is not None and self._speaking.heard is not None:
            self._close(at_ms)
        if self._speaking is None:
            self._speaking = _Speaking(role, at_ms, position, self._sources.get(context_id, "llm"))
        self._speaking.contexts.append(context_id)
        self._speaking.silent_ms = self._speaking.ends_at = None

    def word(self, text: str, *, spaced: bool, position: float) -> None:
        """A word was reached by the audio sent; ``spaced`` says that it brings its own spaces."""
        if self._speaking is not None:
            part = TextPartForConcatenation(text, includes_inter_part_spaces=spaced)
            self._speaking.words.append((part, position))

    def silent(self, *, at_ms: int, position: float | None = None) -> None:
        """The audio of a TTS context is out, up to ``position`` ms of all audio sent."""
        if self._speaking is not None:
            self._speaking.silent_ms = at_ms
            self._speaking.ends_at = position
            if self._unremembered.issuperset(self._speaking.contexts):
                self._speaking.heard = self._meant(self._speaking)
            if self._speaking.heard is not None:
                self._close(at_ms)

    def agent_finished(self, heard: str, *, at_ms: int) -> None:
        """The text of our utterance is complete."""
        if self._speaking is not None:
            self._speaking.heard = heard
            if self._speaking.silent_ms is not None:
                self._close(at_ms)

    def agent_interrupted(self, *, heard_until: float, at_ms: int) -> Cut | None:
        """Our utterance was cut off; ``heard_until`` is the position up to which its audio was played.

        Returns what was lost of it; None when we were not speaking.
        """
        speaking = self._speaking
        if speaking is None:
            return None
        meant = self._meant(speaking)
        heard = concatenate_aggregated_text([part for part, at in speaking.words if at <= heard_until])
        # Vendors tell the last word late: when all of the sound was heard, so were all of the words.
        whole = speaking.ends_at is not None and heard_until >= speaking.ends_at
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
        ended_ms = at_ms if speaking.silent_ms is None else speaking.silent_ms
        self._add(
            "agent", speaking.role, meant, heard,
            source=speaking.source, span=(speaking.started_ms, ended_ms), interrupted=interrupted,
        )  # fmt: skip

    def _meant(self, speaking: _Speaking) -> str:
        return " ".join(filter(None, (self._requested.get(c) for c in speaking.contexts)))

    def _add(
        self,
        speaker: Speaker,
        role: ActiveAgent,
        text: str,
        heard: str,
        *,
        source: Source,
        span: tuple[int, int],
        interrupted: bool = False,
    ) -> None:
        utterance = Utterance(
            id=new_id(),
            seq=self._next_seq,
            speaker=speaker,
            template_id=role.template_id,
            node=role.node,
            text=text,
            heard_text=heard,
            interrupted=interrupted,
            source=source,
            started_ms=span[0],
            ended_ms=max(span),
        )
        self._next_seq += 1
        self._record(utterance)
