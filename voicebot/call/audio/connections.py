"""Keeps the services of the agent who has the call connected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from templates.model import TemplateContent
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.audio.service_switch import PREPARE_TIMEOUT_S, ServiceSwitch
from voicebot.call.dependencies import ServiceFactory
from voicebot.providers.service_spec import OnRequest, ServiceFailed, ServiceSpec

RECONNECT_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 4.0)
TTS_PAUSES_S = (0.2, 0.5, 0.0)
"""Shorter, because the caller hears nothing meanwhile; after the third attempt the carrier speaks."""

TTS_TIMEOUT_S = 1.5
"""How long one attempt to connect a voice may take."""


class ServiceLost(Exception):
    """A service could not be connected after all attempts; ``kind`` is ``stt``, ``llm`` or ``tts``."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"the {kind} service cannot be connected")
        self.kind = kind


class ServiceConnections:
    """Connects and reconnects services, each attempt with new processors: a failed one stays unusable."""

    def __init__(
        self,
        pipeline: CallPipeline,
        services: ServiceFactory,
        on_request: OnRequest,
        on_failure: Callable[[str, str], None],
    ) -> None:
        """``on_failure`` is called with the kind of service and the reason of every failed attempt."""
        self._pipeline = pipeline
        self._services = services
        self._on_request = on_request
        self._on_failure = on_failure
        self._reconnecting: set[str] = set()

    async def connect(self, content: TemplateContent) -> None:
        """Connect the services of the agent who answers.

        Raises:
            ServiceLost: one of them could not be connected.
        """
        pipeline = self._pipeline
        await asyncio.gather(
            self._connect(pipeline.stt, pipeline.initial.stt, content),
            self._connect(pipeline.llm, pipeline.initial.llm, content),
            self._connect(pipeline.tts, pipeline.initial.tts, content),
        )

    def switch_of(self, key: str) -> ServiceSwitch | None:
        """The switch whose active service has this key."""
        switches = (self._pipeline.stt, self._pipeline.llm, self._pipeline.tts)
        return next((switch for switch in switches if switch.active == key), None)

    async def reconnect(self, switch: ServiceSwitch, content: TemplateContent) -> None:
        """Replace the active service, which failed; frames that arrive meanwhile go to the new one.

        Raises:
            ServiceLost: it could not be connected again.
        """
        if switch.name in self._reconnecting:
            return
        self._reconnecting.add(switch.name)
        try:
            await self._connect(switch, self._new(switch, content), content)
        finally:
            self._reconnecting.discard(switch.name)

    async def _connect(self, switch: ServiceSwitch, spec: ServiceSpec, content: TemplateContent) -> None:
        speaks = switch is self._pipeline.tts
        timeout_s = TTS_TIMEOUT_S if speaks else PREPARE_TIMEOUT_S
        for pause_s in TTS_PAUSES_S if speaks else RECONNECT_PAUSES_S:
            try:
                return await switch.prepare(spec, timeout_s=timeout_s)
            except ServiceFailed as error:
                self._on_failure(switch.name, error.reason)
            await asyncio.sleep(pause_s)
            spec = self._new(switch, content)
        raise ServiceLost(switch.name)

    def _new(self, switch: ServiceSwitch, content: TemplateContent) -> ServiceSpec:
        if switch is self._pipeline.stt:
            return self._services.stt(content)
        if switch is self._pipeline.llm:
            return self._services.llm(content)[0]
        return self._services.tts(content, self._on_request)
