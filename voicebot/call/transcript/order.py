"""The order of a transcript: utterances are numbered by when they began, although some end later."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter

from db.ids import new_id
from db.utterances import Source, Speaker, UtteranceRecord
from voicebot.call.agents import ActiveAgent
from voicebot.call.dependencies import CallFacts

_RANK: Mapping[Speaker, int] = {"agent": 0, "caller": 1, "operator": 1, "system": 1}
"""Of two utterances that began at the same moment, the agent's is the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What was said, before it has a number. Times are milliseconds since the answer."""

    speaker: Speaker
    agent: ActiveAgent
    text: str
    heard: str
    source: Source
    started_ms: int
    ended_ms: int
    interrupted: bool = False

    @property
    def place(self) -> tuple[int, int]:
        """What utterances are sorted by."""
        return self.started_ms, _RANK[self.speaker]


class OrderedUtterances:
    """Records utterances in the order in which they began.

    One that has ended waits for those that began before it and go on.
    """

    def __init__(self, call: CallFacts, record: Callable[[UtteranceRecord], None], first_seq: int) -> None:
        """``record`` is called once with every utterance, in order; ``first_seq`` is the first number."""
        self._call = call
        self._record = record
        self._next_seq = first_seq
        self._open: dict[tuple[Speaker, float], tuple[int, int]] = {}
        self._waiting: list[Said] = []

    def began(self, speaker: Speaker, at_ms: int, number: float = 0.0) -> None:
        """An utterance of this speaker has begun; several that are open at once have different numbers."""
        self._open[speaker, number] = at_ms, _RANK[speaker]

    def ended(self, speaker: Speaker, number: float = 0.0) -> None:
        """An utterance has ended; it was added if it had words."""
        self._open.pop((speaker, number), None)
        while self._waiting and all(self._waiting[0].place < place for place in self._open.values()):
            self.record(self._waiting.pop(0))

    def add(self, said: Said) -> None:
        """Record an utterance that :meth:`ended` follows."""
        insort(self._waiting, said, key=attrgetter("place"))

    def record(self, said: Said) -> None:
        """Record an utterance at once."""
        utterance = UtteranceRecord(
            id=new_id(),
            account_id=self._call.account_id,
            call_id=self._call.id,
            seq=self._next_seq,
            speaker=said.speaker,
            template_id=said.agent.template_id,
            node=said.agent.node,
            text=said.text,
            heard_text=said.heard,
            interrupted=said.interrupted,
            source=said.source,
            started_ms=said.started_ms,
            ended_ms=max(said.started_ms, said.ended_ms),
        )
        self._next_seq += 1
        self._record(utterance)
