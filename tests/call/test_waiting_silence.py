"""A waiting caller is never in silence: hundreds of random waits in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine, Mapping
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import numpy as np
import pytest
from pipecat.frames.frames import OutputAudioRawFrame

from handlers.context import HandoffRequest, HandoffStatus
from templates.model import TemplateContent, Waiting
from tests.call.virtual_time import VirtualLoop, virtual_time
from voicebot.background import BackgroundTasks
from voicebot.call.person.waiting import WaitingForPerson

WAITS = 300
DURATION_S = 40.0
LONGEST_SILENCE_MS = 2000.0
WINDOW_MS = 20.0
LOUD = 110.0
"""Root mean square of 16-bit samples from which 20 ms count as sound; about -49 dB of full scale."""
CHARACTER_MS = 65.0
HANDOFF = UUID(int=1)


class Line:
    """What the caller hears and says: audio that was sent is played in real time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.sounds: list[tuple[float, float]] = []
        self.speech_until_ms = self.played_until_ms = 0.0
        self.is_speaking = False

    def monotonic_ms(self) -> float:
        return self._loop.time() * 1000

    @property
    def quiet_ms(self) -> float:
        """For how long neither side has spoken; 0 while one of them does."""
        return max(0.0, self.monotonic_ms() - self.speech_until_ms)

    async def play(self, frame: OutputAudioRawFrame) -> None:
        """Play comfort audio after what was sent before."""
        samples = np.frombuffer(frame.audio, "<i2").astype(float).reshape(-1, 160)
        start = max(self.monotonic_ms(), self.played_until_ms)
        for window in np.sqrt((samples**2).mean(axis=1)):
            if window >= LOUD:
                self.sounds.append((start, start + WINDOW_MS))
            start += WINDOW_MS
        self.played_until_ms = start

    async def speak(self, duration_ms: float) -> None:
        """Somebody speaks; an agent's speech is played after what was sent before."""
        start = max(self.monotonic_ms(), self.played_until_ms)
        self.sounds.append((start, start + duration_ms))
        self.played_until_ms = self.speech_until_ms = start + duration_ms
        self.is_speaking = True
        await asyncio.sleep((start + duration_ms - self.monotonic_ms()) / 1000)
        self.is_speaking = False

    async def hear_caller(self, duration_ms: float) -> None:
        """The caller speaks, and interrupts what was being played."""
        now = self.monotonic_ms()
        self.sounds = [(start, min(end, now)) for start, end in self.sounds if start < now]
        self.sounds.append((now, now + duration_ms))
        self.played_until_ms = now
        self.speech_until_ms = now + duration_ms
        await asyncio.sleep(duration_ms / 1000)


class Wait:
    """One waiting caller with a random course."""

    def __init__(self, loop: VirtualLoop, chance: random.Random) -> None:
        self.line = line = Line(loop)
        self.chance = chance
        self.said: list[tuple[float, str]] = []
        self.tasks = BackgroundTasks("test")
        content = TemplateContent(name="Desk", waiting=Waiting(line="One moment.", every_ms=8000))

        async def text(words: str, *, remembered: bool) -> None:
            del remembered
            self.said.append((line.monotonic_ms(), words))
            self.tasks.start(self._synthesised(words), name="speaking", droppable=True)

        async def ignored(*_: object) -> None:
            return None

        parts: Mapping[str, Any] = {
            "media": SimpleNamespace(on_dtmf=lambda _: None),
            "clock": line,
            "agents": SimpleNamespace(current=SimpleNamespace(content=content, values={})),
            "recorder": SimpleNamespace(hand_off=lambda _: None, withdraw_handoff=lambda _: None),
            "pipeline": SimpleNamespace(
                sample_rate=8000,
                marks=line,
                tts=SimpleNamespace(push_frame=line.play),
                worker=SimpleNamespace(queue_frame=ignored),
            ),
            "speech_output": SimpleNamespace(text=text),
            "conversation": line,
            "hangup": SimpleNamespace(is_hanging_up=False),
            "tasks": self.tasks,
            "recording": ignored,
            "has_phone": True,
        }
        self.waiting = WaitingForPerson(**parts)

    async def _synthesised(self, words: str) -> None:
        await asyncio.sleep(self.chance.uniform(0.1, 0.6))
        await self.line.speak(len(words) * CHARACTER_MS)

    async def run(self) -> tuple[float, float]:
        """Wait; return when it began and ended, in ms."""
        line, chance = self.line, self.chance
        await line.speak(1000.0)
        began = line.monotonic_ms()
        self.waiting.hand_off(HandoffRequest(intent="escalate", reason="test"))
        ends_s = began / 1000 + DURATION_S
        happenings: list[Callable[[], Coroutine[Any, Any, None]]] = [
            self._status, self._status, self._talk, self._pause,
        ]  # fmt: skip
        while line.monotonic_ms() / 1000 < ends_s:
            await chance.choice(happenings)()
        assert self.waiting.is_waiting
        ended = line.monotonic_ms()
        await self.tasks.cancel()
        return began, ended

    async def _pause(self) -> None:
        await asyncio.sleep(self.chance.uniform(0.2, 6.0))

    async def _status(self) -> None:
        phase = cast(Any, self.chance.choice(["waiting", "waiting", "claimed"]))
        there = self.chance.random() < 0.7
        self.waiting.handoff_changed(HandoffStatus(handoff_id=HANDOFF, phase=phase, someone_is_there=there))
        await asyncio.sleep(self.chance.uniform(0.0, 1.0))

    async def _talk(self) -> None:
        """The caller says something, and the agent answers after a while."""
        await self.line.hear_caller(self.chance.uniform(500.0, 3000.0))
        await asyncio.sleep(self.chance.uniform(0.3, 1.8))
        await self.line.speak(self.chance.uniform(500.0, 4000.0))


def longest_silence_ms(sounds: list[tuple[float, float]], since_ms: float, until_ms: float) -> float:
    silence, heard_to = 0.0, since_ms
    for start, end in sorted(sounds):
        if start >= until_ms:
            break
        silence = max(silence, start - heard_to)
        heard_to = max(heard_to, end)
    return max(silence, until_ms - heard_to)


@pytest.mark.parametrize("seeds", [range(5), pytest.param(range(5, WAITS), marks=pytest.mark.long)])
def test_a_waiting_caller_is_never_in_silence(seeds: range) -> None:
    """At no time neither side is heard for more than 2 s, and the line is said at most every `every_ms`."""
    for seed in seeds:
        with virtual_time() as loop:
            wait = Wait(loop, random.Random(seed))
            began, ended = loop.play(wait.run())
        assert longest_silence_ms(wait.line.sounds, began, ended) <= LONGEST_SILENCE_MS, seed
        lines = [at for at, words in wait.said if words == "One moment."]
        assert all(later - earlier >= 8000 for earlier, later in itertools.pairwise(lines)), seed
