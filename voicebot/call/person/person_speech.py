"""Transcribes the caller and the operator during a takeover, only for the transcript."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from voicebot.background import BackgroundTasks
from voicebot.call.agents import ActiveAgent, AgentPool
from voicebot.call.audio.side_stt import SideStt
from voicebot.call.audio.stt_switch import SttSwitch
from voicebot.call.services import CallServices
from voicebot.call.transcript.conversation import Conversation
from voicebot.call.transcript.transcript import Transcript
from voicebot.providers.service_spec import ServiceSpec

LAST_WORDS_S = 1.0
"""How long the last words may take to be transcribed."""

Person = Literal["caller", "operator"]


@dataclass(slots=True)
class _Turn:
    """The current utterance of one person, by its latest transcript."""

    started_ms: int
    words: str = ""


class PersonSpeech:
    """Transcribes both persons if the current agent's template, or the account, requests it.

    Utterances are recorded in the order in which they began, as the transcript has them.
    """

    def __init__(
        self,
        stt: SttSwitch,
        services: CallServices,
        agents: AgentPool,
        conversation: Conversation,
        transcript: Transcript,
        tasks: BackgroundTasks,
    ) -> None:
        """Nothing is transcribed yet."""
        self._stt = stt
        self._services = services
        self._agents = agents
        self._conversation = conversation
        self._transcript = transcript
        self._tasks = tasks
        self._sides: Mapping[Person, SideStt] = {}
        self._turns: dict[Person, _Turn] = {}
        self._ended: list[tuple[int, int, Person, str]] = []
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()
        self._agent: ActiveAgent = agents.active
        self._follows_agent = True

    def begin(self) -> None:
        """Start: the operator has taken the call over."""
        content = self._agents.current.content
        if self._sides or not content.takeover.transcribe:
            return
        self._agent, self._follows_agent = self._agents.active, True
        persons: tuple[Person, ...] = ("caller", "operator")
        self._sides = {person: self._side(person, self._services.stt(content)) for person in persons}
        for person, side in self._sides.items():
            work = self._stt.run_beside(side)
            self._tasks.start(work, name=f"connecting a transcription ({person})", droppable=True)

    def hear(self, person: Person, audio: bytes) -> None:
        """Take 16-bit mono PCM, at the call's rate, of one person; return at once."""
        if self._sides:
            self._sides[person].hear(audio)

    def end(self, *, at_once: bool = False) -> None:
        """Stop: the operator has left. Record the last words once they are transcribed.

        ``at_once``: the call is over; record what is transcribed now.
        """
        sides, self._sides = self._sides, {}
        if at_once:
            self._finish()
        if sides:
            self._tasks.start(self._close(sides), name="ending a transcription")

    async def _close(self, sides: Mapping[Person, SideStt]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._is_quiet.wait()
        self._finish()
        await asyncio.gather(*(side.close() for side in sides.values()))

    def _finish(self) -> None:
        for person in list(self._turns):
            self._end_turn(person)
        self._follows_agent = False
        self._record()

    def _side(self, person: Person, spec: ServiceSpec) -> SideStt:
        def failed(failed_spec: ServiceSpec, error: BaseException | None) -> None:
            self._services.failed("stt", failed_spec, error, "a person is not transcribed")

        return SideStt(spec, lambda words, final: self._words(person, words, final=final), failed)

    def _words(self, person: Person, words: str, *, final: bool) -> None:
        turn = self._turns.setdefault(person, _Turn(self._conversation.elapsed_ms))
        self._is_quiet.clear()
        turn.words = words
        if final:
            self._end_turn(person)
            self._record()

    def _end_turn(self, person: Person) -> None:
        turn = self._turns.pop(person)
        if not self._turns:
            self._is_quiet.set()
        if turn.words:
            self._ended.append((turn.started_ms, self._conversation.elapsed_ms, person, turn.words))

    def _record(self) -> None:
        """Record the utterances that no unfinished earlier utterance precedes."""
        if self._follows_agent and self._conversation.is_open:
            return  # what was said before the takeover is not complete
        self._follows_agent = False
        began = min((turn.started_ms for turn in self._turns.values()), default=None)
        ready = sorted(each for each in self._ended if began is None or each[0] <= began)
        self._ended = [each for each in self._ended if each not in ready]
        for started_ms, ended_ms, person, words in ready:
            self._transcript.person_said(person, words, self._agent, started_ms=started_ms, ended_ms=ended_ms)
