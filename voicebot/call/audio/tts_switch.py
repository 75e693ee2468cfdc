"""The switch of the TTS services; text that a failed service has not spoken can be taken back from it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    SystemFrame,
    TTSAudioRawFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection

from voicebot.call.audio.branch import Branch
from voicebot.call.audio.frames import DrainFrame, SpeechLostFrame
from voicebot.call.audio.service_switch import OnError, ServiceSwitch
from voicebot.providers.pace import Pace
from voicebot.providers.service_spec import OnRequest, ServiceSpec

NOTED_TIMEOUT_S = 1.0

LATEST_TEXTS = 5
"""How many of the latest texts determine the pace of a voice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenBack:
    """What a TTS service got and has not passed on.

    Attributes:
        text: the model's text that the service got and was not asked to speak; None if there is none and the
            response has ended.
        is_complete: whether the response ends with this text.
        drains: the drain frames that the service had not passed on.
        kept: frames that arrived after the service had failed.
    """

    text: str | None
    is_complete: bool
    drains: Sequence[DrainFrame]
    kept: Sequence[Frame]


class TtsSwitch(ServiceSwitch):
    """The TTS services of one call."""

    def __init__(self, initial: ServiceSpec, *, on_error: OnError, on_request: OnRequest) -> None:
        """Nothing was spoken yet. ``on_request`` is called with each text that is sent to a service."""
        super().__init__(initial, on_error=on_error, name="tts")
        self._on_request = on_request
        self._requested_at_ns: dict[str, int] = {}
        """When the first text of each context without audio was sent, by pipecat's clock."""
        self._paces: dict[str, Pace] = defaultdict(partial(Pace, LATEST_TEXTS))
        self._drains: list[DrainFrame] = []
        self._response = ""
        self._is_open = False
        self._characters = 0
        self._held: list[Frame] | None = None
        self._made_at_ns: dict[str, int] = {}
        """When the first audio of each context that is held was made, by pipecat's clock."""
        self._delays_ns: dict[str, int] = {}
        """For how long the audio of each context was held."""

    def hold(self) -> None:
        """Keep the active service's output until it is released, while earlier speech is still playing."""
        self._held, self._made_at_ns, self._delays_ns = [], {}, {}

    async def release(self) -> None:
        """Push the held frames in order; words are delayed by the time for which their audio was held."""
        now_ns = self.get_clock().get_time()
        self._delays_ns = {context: now_ns - made for context, made in self._made_at_ns.items()}
        while self._held:
            await self.push_frame(self._delayed(self._held.pop(0)))
        self._held = None

    @property
    def is_holding(self) -> bool:
        """Whether output is kept until it is released."""
        return self._held is not None

    @property
    def pace_ms(self) -> float | None:
        """The longest time that the active voice took to start one of its latest texts; None: unknown."""
        return self._paces[self.active].slowest_ms

    @property
    def usual_pace_ms(self) -> float | None:
        """The same for all voices of its provider, on all calls of the process."""
        return self.active_branch.spec.pace.slowest_ms

    async def requested(self, context_id: str, text: str) -> None:
        """A service was sent ``text``, to be spoken in a context."""
        self._requested_at_ns.setdefault(context_id, self.get_clock().get_time())
        await self._on_request(context_id, text)

    @property
    def can_speak(self) -> bool:
        """Whether the active service is connected."""
        return self.is_ready(self.active)

    async def take_back(self, *, drops_audio: bool, requested: int) -> TakenBack:
        """Stop using the active service, and take back what it has not passed on.

        Frames that arrive from now on are kept for the service that is prepared in its place.

        Args:
            drops_audio: whether audio that it made and that was not played is dropped.
            requested: how many characters of the model's text, without spaces, it was asked to speak.
        """
        if self.can_speak:
            self.give_up(self.active)
        self._requested_at_ns.clear()
        if drops_audio:
            await self._drop_output()
        kept = [frame for frame, _ in self.active_branch.backlog]
        self.active_branch.backlog.clear()
        text = self._unrequested(kept, requested)
        is_complete = not self._is_open and not any(
            isinstance(each, LLMFullResponseEndFrame) for each in kept
        )
        drains, self._drains = [drain for drain in self._drains if drain not in kept], []
        self._response, self._characters = "", requested
        return TakenBack(text=text, is_complete=is_complete, drains=drains, kept=kept)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Record frames that have entered and not passed yet."""
        if isinstance(frame, DrainFrame):
            self._drains.append(frame)
        elif isinstance(frame, LLMFullResponseStartFrame):
            self._response, self._is_open = "", True
        elif isinstance(frame, LLMTextFrame):
            self._response += frame.text
            self._characters += characters(frame.text)
        elif isinstance(frame, LLMFullResponseEndFrame):
            self._is_open = False
        elif isinstance(frame, InterruptionFrame):
            self._response, self._is_open, self._characters = "", False, 0
            self._requested_at_ns.clear()
        await super().process_frame(frame, direction)

    def _delayed(self, frame: Frame) -> Frame:
        if isinstance(frame, TTSTextFrame) and frame.pts and frame.context_id is not None:
            frame.pts += self._delays_ns.get(frame.context_id, 0)
        return frame

    async def _pass_on(self, frame: Frame, direction: FrameDirection) -> None:
        urgent = isinstance(frame, SystemFrame | EndFrame) or direction is FrameDirection.UPSTREAM
        if self._held is None or urgent:
            await self.push_frame(self._delayed(frame), direction)
            return
        if isinstance(frame, TTSAudioRawFrame) and frame.context_id is not None:
            self._made_at_ns.setdefault(frame.context_id, self.get_clock().get_time())
        self._held.append(frame)

    async def _drop_output(self) -> None:
        held, self._held = self._held, None if self._held is None else []
        self._drains += [frame for frame in held or () if isinstance(frame, DrainFrame)]
        lost = SpeechLostFrame()
        await self.push_frame(lost)
        with suppress(TimeoutError):
            async with asyncio.timeout(NOTED_TIMEOUT_S):
                await lost.noted.wait()

    def _unrequested(self, kept: Sequence[Frame], requested: int) -> str | None:
        """The words of the response that the service has got, but was not asked to speak."""
        if any(isinstance(frame, LLMFullResponseStartFrame) for frame in kept):
            return None
        arrived = "".join(frame.text for frame in kept if isinstance(frame, LLMTextFrame))
        left = self._characters - requested - characters(arrived)
        is_open = self._is_open or any(isinstance(frame, LLMFullResponseEndFrame) for frame in kept)
        return _last(self._response.removesuffix(arrived), left) if is_open or left > 0 else None

    async def _leave(self, branch: Branch, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, InterruptionFrame) and self._held is not None:
            self._held = [held for held in self._held if not held.interruptible]
        if isinstance(frame, DrainFrame):
            if frame not in self._drains:
                return  # taken back already
            self._drains.remove(frame)
        elif branch.failed and not isinstance(frame, SystemFrame):
            return  # it will be spoken again
        if isinstance(frame, TTSAudioRawFrame):
            self._note_pace(branch, frame)
        await super()._leave(branch, frame, direction)

    def _note_pace(self, branch: Branch, frame: TTSAudioRawFrame) -> None:
        requested_at_ns = self._requested_at_ns.pop(frame.context_id or "", None)
        if requested_at_ns is not None:
            took_ms = (self.get_clock().get_time() - requested_at_ns) / 1e6
            self._paces[branch.spec.key].note(took_ms)
            branch.spec.pace.note(took_ms)


def characters(text: str) -> int:
    """The number of characters that are no spaces."""
    return sum(not character.isspace() for character in text)


def _last(text: str, count: int) -> str:
    """The end of a text that has so many characters without spaces; all of it if it has fewer."""
    begin = len(text)
    while begin > 0 and count > 0:
        begin -= 1
        count -= not text[begin].isspace()
    return text[begin:]
