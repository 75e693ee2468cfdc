"""What a call needs to use a provider's service: how to make it and how to know that it is connected."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from pipecat.processors.frame_processor import FrameProcessor

SAMPLE_RATE = 8000
"""Hz of the 16-bit mono PCM that services take and give. Telephones carry this rate: nothing is resampled."""

CONNECTED_TIMEOUT_S = 1.0

OnRequest = Callable[[str, str], Awaitable[None]]
"""Called with the TTS context id and the text of every request to speak."""


class ServiceFailed(Exception):
    """A service could not be made ready; ``reason`` says why, without secrets."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """One interchangeable service, with the processors that belong to it.

    Attributes:
        key: equal for services with equal settings; a call makes one service for each key.
        make: makes the processors; not called when a service with the same key exists already.
        connected: returns when the vendor's socket is open, and raises ``ServiceFailed`` when it is not.
    """

    key: str
    make: Callable[[], Awaitable[Sequence[FrameProcessor]]]
    connected: Callable[[], Awaitable[None]]


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


class ConnectedEvent:
    """Waits for the ``on_connected`` event of a pipecat service."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._event = asyncio.Event()

    def watch(self, service: FrameProcessor) -> None:
        """Listen to a service that is not set up yet."""
        service.add_event_handler("on_connected", self._on_connected)

    async def wait(self) -> None:
        """Return when the service is connected.

        Raises:
            ServiceFailed: it is not within 1 s of its setup.
        """
        try:
            await asyncio.wait_for(self._event.wait(), CONNECTED_TIMEOUT_S)
        except TimeoutError as error:
            raise ServiceFailed(self._key, "the vendor refused the connection") from error

    async def _on_connected(self, _: FrameProcessor) -> None:
        self._event.set()
