"""``ServiceSpec``: how a call makes a provider's service and waits until it is connected."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from pipecat.frames.frames import ErrorFrame
from pipecat.processors.frame_processor import FrameProcessor

from voicebot.providers.pace import Pace

SAMPLE_RATE = 8000
"""The default sample rate of a call in Hz (16-bit mono PCM); the carrier's stream may have another one.
Services use the rate of their pipeline, so nothing is resampled."""

CONNECTED_TIMEOUT_S = 1.0

OnRequest = Callable[[str, str], Awaitable[None]]
"""Called with the TTS context id and the text of every request to speak."""


class ServiceFailed(Exception):
    """A service could not be made ready.

    Attributes:
        key: the service.
        reason: why, without secrets.
        error: what the vendor's client raised, if it raised something.
    """

    def __init__(self, key: str, reason: str, error: BaseException | None = None) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """One interchangeable service, with the processors that belong to it.

    Attributes:
        key: equal for services with equal settings; a call makes one service for each key.
        make: makes the processors; not called when a service with the same key exists already.
        connected: returns when the vendor's socket is open, and raises ``ServiceFailed`` when it is not.
        provider: the provider's name; empty for a service without one (a text call).
        pace: the pace of all voices of the provider in this process.
    """

    key: str
    make: Callable[[], Awaitable[Sequence[FrameProcessor]]]
    connected: Callable[[], Awaitable[None]]
    provider: str = ""
    pace: Pace = field(default_factory=Pace)


def made(*processors: FrameProcessor) -> Callable[[], Awaitable[Sequence[FrameProcessor]]]:
    """``ServiceSpec.make`` for processors that exist already."""

    async def make() -> Sequence[FrameProcessor]:
        return processors

    return make


async def connected_at_once() -> None:
    """``ServiceSpec.connected`` for a service that has no socket."""


def failing(key: str, reason: str) -> ServiceSpec:
    """A service that cannot be made, for a template that names what this server does not have."""

    async def make() -> Sequence[FrameProcessor]:
        raise ServiceFailed(key, reason)

    return ServiceSpec(key=key, make=make, connected=connected_at_once)


class Connection:
    """Waits until a pipecat service is connected, or until it reports that it is not.

    A refusal ends the wait at once: what the caller hears must not wait for a timeout.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._outcome: asyncio.Future[None] | None = None
        self._reports_connected = True

    def watch(self, service: FrameProcessor, *, reports_connected: bool = True) -> None:
        """Listen to a service that is not set up yet.

        Args:
            service: the vendor's service.
            reports_connected: whether it fires ``on_connected``; otherwise its setup ends when it is
                connected or has failed.
        """
        self._outcome = asyncio.get_running_loop().create_future()
        service.add_event_handler("on_error", self._on_error)
        if reports_connected:
            service.add_event_handler("on_connected", self._on_connected)
        self._reports_connected = reports_connected

    async def wait(self) -> None:
        """Return when the service, which is set up, is connected.

        Raises:
            ServiceFailed: the vendor refused, or did not answer within 1 s of the setup.
        """
        outcome = self._outcome
        if outcome is None or not (self._reports_connected or outcome.done()):
            return
        try:
            async with asyncio.timeout(CONNECTED_TIMEOUT_S):
                await asyncio.shield(outcome)
        except TimeoutError as error:
            raise ServiceFailed(self._key, "the vendor did not answer", error) from error

    async def _on_connected(self, _: FrameProcessor) -> None:
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(None)

    async def _on_error(self, _: FrameProcessor, frame: ErrorFrame) -> None:
        if self._outcome is not None and not self._outcome.done():
            failure = ServiceFailed(self._key, "the vendor refused the connection", frame.exception)
            self._outcome.set_exception(failure)
            self._outcome.exception()  # retrieved, although perhaps nobody waits
