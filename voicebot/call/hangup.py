"""How a call comes to its end: once, and with nothing said cut off by us."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from loguru import logger

from db.calls import EndedBy
from telephony.carrier import CarrierError
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.audio.speech_output import SpeechOutput
from voicebot.call.dependencies import CallDependencies
from voicebot.call.tasks import Tasks

LAST_WORDS_S = 20.0
HANG_UP_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a call ended. ``resumable``: only the stream is lost, and the carrier may bring another."""

    ended_by: EndedBy
    reason: str
    outcome: str | None = None
    resumable: bool = False


class Hangup:
    """The end of one call."""

    def __init__(
        self,
        line: CallDependencies,
        pipeline: CallPipeline,
        speech_output: SpeechOutput,
        tasks: Tasks,
        stir: Callable[[], None],
    ) -> None:
        """``stir`` is called when a goodbye begins: nobody has to prompt the caller any more."""
        self._line = line
        self._pipeline = pipeline
        self._speech_output = speech_output
        self._tasks = tasks
        self._stir = stir
        self._over: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._farewell: asyncio.Task[Any] | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether a goodbye is being said that a caller who goes on would stop."""
        return self._farewell is not None and not self._farewell.done()

    async def come(self) -> End:
        """Wait for it."""
        return await self._over

    def finish(self, end: End) -> None:
        """The call is over now; the first end is the end."""
        if not self._over.done():
            self._over.set_result(end)

    def take_leave(self, end: End, last_words: str | None = None) -> None:
        """Hang up after the last words, unless the caller goes on."""
        self._farewell = self.begin(end, last_words)

    def begin(self, end: End, last_words: str | None = None) -> asyncio.Task[Any]:
        """Hang up after the last words, whatever the caller says."""
        return self._tasks.start(self.hang_up(end, last_words), name="hang-up", lasting=True)

    def stay(self) -> bool:
        """The caller goes on: take the goodbye back; False if none is being said, or the call is over."""
        if self._farewell is None or self._farewell.done() or self._over.done():
            return False
        self._farewell.cancel()
        self._pipeline.gate.open()
        return True

    async def hang_up(self, end: End, last_words: str | None = None) -> None:
        """End the call by ourselves when everything has been heard."""
        if self._over.done():
            return
        self._stir()
        self._pipeline.gate.shut()
        if last_words:
            await self._speech_output.text(last_words)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self.all_heard()
        self.finish(end)
        try:
            async with asyncio.timeout(HANG_UP_S):
                await self._line.carrier.hang_up(self._line.media.start.carrier_call_id)
        except (CarrierError, TimeoutError) as error:
            # The socket's end leads the carrier to /resume, which hangs up too.
            logger.warning("call {}: hang-up failed: {}", self._line.call.id, type(error).__name__)

    async def all_heard(self) -> None:
        """Return when the caller has heard all: a text may be complete before its audio is sent."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._pipeline.drain()
                await self._line.media.wait_all_heard(LAST_WORDS_S)
