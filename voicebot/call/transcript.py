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
class Role:
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
    """An utterance of ours while it sounds."""

    role: Role
    started_ms: int
    begins_at: float
    source: Source
    contexts: list[str] = field(default_factory=list)
    words: list[tuple[TextPartForConcatenation, float]] = field(default_factory=list)


class Transcript:
    """The one list of a call's utterances; ``record`` is called once for each, in order."""

    def __init__(self, record: Callable[[Utterance], None]) -> None:
        self._record = record
        self._said: list[Utterance] = []
        self._requested: dict[str, str] = {}
        self._sources: dict[str, Source] = {}
        self._speaking: _Speaking | None = None

    @property
    def utterances(self) -> tuple[Utterance, ...]:
        """Everything said so far, in order."""
        return tuple(self._said)

    def caller_said(self, text: str, role: Role, *, started_ms: int, ended_ms: int) -> None:
        """The caller finished a turn while ``role`` had the call."""
        if text.strip():
            self._add(
                Utterance(
                    id=new_id(),
                    seq=len(self._said) + 1,
                    speaker="caller",
                    template_id=role.template_id,
                    node=role.node,
                    text=text,
                    heard_text=text,
                    interrupted=False,
                    source="stt",
                    started_ms=started_ms,
                    ended_ms=max(started_ms, ended_ms),
                )
            )

    def requested(self, context_id: str, text: str, source: Source | None = None) -> None:
        """``text`` was sent to be spoken under a TTS context id."""
        before = self._requested.get(context_id)
        self._requested[context_id] = f"{before} {text}" if before else text
        if source is not None:
            self._sources[context_id] = source

    def sounding(self, context_id: str, role: Role, *, at_ms: int, position: float) -> None:
        """The first audio of a TTS context went out, at ``position`` ms of all audio sent."""
        if self._speaking is None:
            source = self._sources.get(context_id, "llm")
            self._speaking = _Speaking(role, at_ms, position, source)
        self._speaking.contexts.append(context_id)

    def word(self, text: str, *, spaced: bool, position: float) -> None:
        """A word was reached by the audio sent; ``spaced`` says that it brings its own spaces."""
        if self._speaking is not None:
            part = TextPartForConcatenation(text, includes_inter_part_spaces=spaced)
            self._speaking.words.append((part, position))

    def agent_finished(self, heard: str, *, at_ms: int) -> None:
        """Our utterance came to its end."""
        self._close(heard, interrupted=False, at_ms=at_ms)

    def agent_interrupted(self, *, heard_until: float, at_ms: int) -> str | None:
        """Our utterance was cut off; ``heard_until`` is the position up to which its audio was played.

        Returns what was heard of it; None when we were not speaking.
        """
        speaking = self._speaking
        if speaking is None:
            return None
        heard = concatenate_aggregated_text([part for part, at in speaking.words if at <= heard_until])
        self._close(heard, interrupted=True, at_ms=at_ms)
        return heard

    def _close(self, heard: str, *, interrupted: bool, at_ms: int) -> None:
        speaking = self._speaking
        if speaking is None:
            return
        self._speaking = None
        meant = " ".join(filter(None, (self._requested.pop(c, "") for c in speaking.contexts)))
        self._add(
            Utterance(
                id=new_id(),
                seq=len(self._said) + 1,
                speaker="agent",
                template_id=speaking.role.template_id,
                node=speaking.role.node,
                text=meant or heard,
                heard_text=heard,
                interrupted=interrupted,
                source=speaking.source,
                started_ms=speaking.started_ms,
                ended_ms=max(speaking.started_ms, at_ms),
            )
        )

    def _add(self, utterance: Utterance) -> None:
        self._said.append(utterance)
        self._record(utterance)
