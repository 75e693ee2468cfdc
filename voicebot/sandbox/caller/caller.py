"""The caller: does the steps of a script on the telephone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from voicebot.sandbox.audio.mulaw import samples_of
from voicebot.sandbox.caller.monitor import LineMonitor
from voicebot.sandbox.caller.steps import (
    Dtmf,
    ExpectAnotherVoice,
    ExpectSameVoice,
    HangUp,
    Interrupt,
    Listen,
    Outcome,
    Say,
    Step,
    StepReport,
    Wait,
    WaitFor,
    WaitForHangUp,
)
from voicebot.sandbox.carrier.line import LineDead
from voicebot.sandbox.carrier.model import PhoneCall
from voicebot.sandbox.speech.synthesis import synthesize


class CallerGaveUp(Exception):
    """What a step expects was not heard in time, or the call ended before."""


@dataclass(slots=True, kw_only=True)
class Caller:
    """One caller for one call: pass it as `person` to the carrier.

    A caller who gives up hangs up; `outcome` says why. Nothing is raised into the carrier.
    """

    script: Sequence[Step]
    voice_id: str = "caller"
    synthesise: Callable[[str, str], bytes] = synthesize
    """Makes speech of a text and a voice id: mono 16-bit little-endian PCM at 8,000 Hz."""
    announce: Callable[[str], None] | None = None
    """Called with each text as the caller begins to say it; for `ScriptedTranscripts.announce`."""
    on_step: Callable[[Step], None] | None = None
    """Called as each step begins."""
    attentive: bool = True
    """Whether to compare voices at every turn. False: only in the steps that expect a voice, which saves CPU
    time with many callers; the reports then have no voices."""
    _reports: list[StepReport] = field(default_factory=list)
    _failure: str | None = None

    @property
    def outcome(self) -> Outcome:
        """The reports of the steps so far."""
        undone = self.script[len(self._reports) :]
        failure = self._failure
        if failure is None and undone:
            failure = f"the call ended before step {len(self._reports) + 1}, {undone[0]}, was done"
        return Outcome(steps=tuple(self._reports), failure=failure)

    async def __call__(self, call: PhoneCall) -> None:
        """Do the steps of the script on a telephone."""
        spoken = await asyncio.gather(*(self._prepare(step) for step in self.script))
        person = _OnTheLine(self, call, dict(zip(map(id, self.script), spoken, strict=True)))
        for number, step in enumerate(self.script, start=1):
            if self.on_step is not None:
                self.on_step(step)
            started_ms = call.line.now() / 8
            try:
                await person.do(step)
            except (CallerGaveUp, LineDead) as error:
                self._failure = f"step {number}, {step}: {error}"
                call.hang_up()
                return
            self._reports.append(
                StepReport(step=step, started_ms=started_ms, ended_ms=call.line.now() / 8, voice=person.voice)
            )

    async def _prepare(self, step: Step) -> bytes:
        """Synthesise the words of a step before the call, so that speaking costs no CPU time."""
        if not isinstance(step, Say | Interrupt):
            return b""
        return await asyncio.to_thread(self.synthesise, step.text, self.voice_id)


class _OnTheLine:
    """The caller on an answered call."""

    def __init__(self, caller: Caller, call: PhoneCall, spoken: dict[int, bytes]) -> None:
        self._call = call
        self._attentive = caller.attentive
        self._announce = caller.announce
        self._spoken = spoken
        self._ear = LineMonitor(call.line)
        self._since = 0
        self.voice: str | None = None
        self._voice_before: str | None = None
        self._asked_at = self._recalled = 0

    async def do(self, step: Step) -> None:
        """Do one step; audio after its end belongs to the next step."""
        await self._doings[type(step)](self, step)
        self._since = max(self._since, self._call.line.said.cursor)

    async def _listen(self, step: Listen) -> None:
        async def heard_out() -> bool:
            return self._ear.spoke_since(self._since) and self._ear.quiet_ms >= step.quiet_ms

        await self._until(heard_out, step.timeout_ms, "the agent did not finish speaking")
        if self._attentive:
            await self._recognise()

    async def _say(self, step: Say) -> None:
        self._asked_at = self._call.line.heard.cursor
        await self._speak(step)

    async def _interrupt(self, step: Interrupt) -> None:
        async def long_enough() -> bool:
            return self._ear.speaking_ms >= step.after_ms

        await self._until(long_enough, step.timeout_ms, "the agent did not speak long enough")
        self._asked_at = self._call.line.heard.cursor
        await self._speak(step)

    async def _speak(self, step: Say | Interrupt) -> None:
        samples = samples_of(self._spoken[id(step)])
        if self._announce is not None:
            self._announce(step.text)
        end = self._call.say(samples) + len(samples)
        while await self._call.line.next_frame() < end:
            self._ear.catch_up()

    async def _wait(self, step: Wait) -> None:
        end = self._call.line.now() + step.ms * 8
        while await self._call.line.next_frame() < end:
            self._ear.catch_up()

    async def _wait_for(self, step: WaitFor) -> None:
        async def is_set() -> bool:
            return step.event.is_set()

        await self._until(is_set, step.timeout_ms, "the event was not set")

    async def _another_voice(self, step: ExpectAnotherVoice) -> None:
        await self._recall()
        checked = -1

        async def another() -> bool:
            nonlocal checked
            # Comparing voices costs time: it is done once for each pause.
            if self._ear.quiet_ms < step.quiet_ms or self._ear.last_sound == checked:
                return False
            checked = self._ear.last_sound
            await self._recognise()
            return self.voice not in (None, self._voice_before)

        await self._until(another, step.timeout_ms, f"no other voice was heard than {self._voice_before}")

    async def _same_voice(self, _: ExpectSameVoice) -> None:
        await self._recognise()
        if self.voice != self._voice_before:
            raise CallerGaveUp(f"voice {self.voice} was heard, not {self._voice_before} as before")

    async def _dtmf(self, step: Dtmf) -> None:
        await self._call.press(step.digits)

    async def _wait_for_hang_up(self, step: WaitForHangUp) -> None:
        async def never() -> bool:
            return False

        try:
            await self._until(never, step.timeout_ms, "the other side did not hang up")
        except LineDead:
            return

    async def _hang_up(self, _: HangUp) -> None:
        self._call.hang_up()

    async def _until(self, met: Callable[[], Awaitable[bool]], timeout_ms: float, otherwise: str) -> None:
        deadline = self._call.line.now() + timeout_ms * 8
        self._ear.catch_up()
        while not await met():
            if await self._call.line.next_frame() >= deadline:
                raise CallerGaveUp(f"{otherwise} within {timeout_ms:.0f} ms")
            self._ear.catch_up()

    async def _recognise(self) -> None:
        """Recognise who has spoken last."""
        await self._recall()
        self.voice = await self._ear.last_voice()

    async def _recall(self) -> None:
        """Recognise who spoke before the caller's last words, unless that is known."""
        if self._ear.recognised < self._asked_at:
            self.voice = await self._ear.last_voice(self._asked_at)
        if self._recalled != self._asked_at:
            self._voice_before, self._recalled = self.voice, self._asked_at

    _doings: ClassVar[dict[type[Step], Callable[..., Awaitable[None]]]] = {
        Listen: _listen,
        Say: _say,
        Interrupt: _interrupt,
        Wait: _wait,
        ExpectAnotherVoice: _another_voice,
        ExpectSameVoice: _same_voice,
        Dtmf: _dtmf,
        WaitFor: _wait_for,
        WaitForHangUp: _wait_for_hang_up,
        HangUp: _hang_up,
    }
