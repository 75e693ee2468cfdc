"""The end of a call: it happens once, and what we are saying is spoken to its end first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from loguru import logger

from db.calls import EndedBy
from telephony.carrier import CarrierError, MediaStream
from voicebot.background import BackgroundTasks
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.audio.speech_output import SpeechOutput
from voicebot.call.dependencies import CallEnder

GOODBYE_TIMEOUT_S = 20.0
HANG_UP_TIMEOUT_S = 5.0
PAUSE_TIMEOUT_S = 10.0
PAUSE_POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a call ended. ``resumable``: only the stream was lost, and the carrier may open another one."""

    ended_by: EndedBy
    reason: str
    outcome: str | None = None
    resumable: bool = False


class Hangup:
    """Ends one call."""

    def __init__(
        self,
        carrier: CallEnder,
        media: MediaStream,
        pipeline: CallPipeline,
        speech_output: SpeechOutput,
        tasks: BackgroundTasks,
    ) -> None:
        """The call lasts until ``finish``."""
        self._carrier = carrier
        self._media = media
        self._pipeline = pipeline
        self._speech_output = speech_output
        self._tasks = tasks
        self._end: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._cancellable: asyncio.Task[None] | None = None
        self._is_hanging_up = False

    @property
    def is_hanging_up(self) -> bool:
        """Whether a goodbye is being said, or the call is over."""
        return self._is_hanging_up

    @property
    def is_cancellable(self) -> bool:
        """Whether a goodbye is being said that ``cancel`` would stop."""
        return self._cancellable is not None and not self._cancellable.done()

    async def wait(self) -> End:
        """Wait for the end of the call."""
        return await self._end

    def finish(self, end: End) -> None:
        """The call is over now; a later end changes nothing."""
        if not self._end.done():
            self._end.set_result(end)

    def start(self, end: End, goodbye: str | None = None, *, cancellable: bool = False) -> None:
        """Hang up in the background, after what we are saying and ``goodbye`` have been heard.

        Args:
            end: how the call ends.
            goodbye: what to say first.
            cancellable: whether ``cancel`` stops it, because the caller speaks.
        """
        task = self._tasks.start(self.hang_up(end, goodbye), name="hanging up")
        if cancellable:
            self._cancellable = task

    def cancel(self) -> bool:
        """The caller speaks: do not hang up after all. False if no cancellable goodbye is being said."""
        if self._cancellable is None or self._cancellable.done() or self._end.done():
            return False
        self._cancellable.cancel()
        self._is_hanging_up = False
        self._pipeline.llm.open_gate()
        return True

    async def hang_up(self, end: End, goodbye: str | None = None) -> None:
        """Hang up after what we are saying and ``goodbye`` have been heard; return when it is done."""
        if self._end.done():
            return
        self._is_hanging_up = True
        self._pipeline.llm.shut_gate()
        if goodbye:
            await self._speech_output.text(goodbye)
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                await self.all_heard()
        self.finish(end)
        carrier_call_id = self._media.start.carrier_call_id
        try:
            async with asyncio.timeout(HANG_UP_TIMEOUT_S):
                await self._carrier.hang_up(carrier_call_id)
        except (CarrierError, TimeoutError) as error:
            # The end of the media stream makes the carrier call /resume, which hangs up as well.
            logger.warning("carrier call {}: hang-up failed: {}", carrier_call_id, type(error).__name__)

    async def hand_over(self, is_at_pause: Callable[[], bool]) -> None:
        """Close the stream without ending the call, so that another process resumes it.

        That happens when ``is_at_pause`` says that neither side speaks, or after 10 s. A call whose goodbye
        is being said ends here.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_TIMEOUT_S):
                while self._is_hanging_up or not is_at_pause():  # noqa: ASYNC110 - several parts decide
                    await asyncio.sleep(PAUSE_POLL_S)
        if not self._is_hanging_up:
            self.finish(End(ended_by="system", reason="shutdown", resumable=True))

    async def all_heard(self) -> None:
        """Wait until the caller has heard everything, for 20 s at most.

        A text may be complete before its audio is sent, and audio is sent before it is played.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                await self._pipeline.drain()
                await self._media.wait_all_heard(GOODBYE_TIMEOUT_S)
