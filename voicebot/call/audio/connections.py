"""Keeps the services of the agent who has the call connected."""

from __future__ import annotations

import asyncio
from typing import cast

from db.provider_health import ProviderKind
from templates.model import TemplateContent
from voicebot.background import BackgroundTasks
from voicebot.call.agents import AgentPool, ServiceKeys
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.audio.service_switch import PREPARE_TIMEOUT_S, ServiceSwitch
from voicebot.call.services import CallServices
from voicebot.providers.service_spec import ServiceFailed, ServiceSpec

RECONNECT_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 4.0)
TTS_PAUSES_S = (0.1, 0.5, 0.0)
"""Shorter, because the caller hears nothing meanwhile; after the third attempt the carrier speaks."""

ATTEMPT_TIMEOUT_S = 1.5
"""How long one attempt to connect a voice may take, or a service that has a backup."""
LONE_STT_TIMEOUT_S = 5.0
"""How long one attempt to connect an STT without a backup may take."""


class ServiceLost(Exception):
    """A service could not be connected after all attempts; ``kind`` is ``stt``, ``llm`` or ``tts``."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"the {kind} service cannot be connected")
        self.kind = kind


class ServiceConnections:
    """Connects and reconnects services, each attempt with new processors: a failed one stays unusable.

    Each attempt is made with the service that has failed least on this call, so that backups take turns with
    the preferred service.
    """

    def __init__(
        self, agents: AgentPool, pipeline: CallPipeline, services: CallServices, tasks: BackgroundTasks
    ) -> None:
        """Nothing is connected yet."""
        self._agents = agents
        self._pipeline = pipeline
        self._services = services
        self._tasks = tasks
        self._reconnecting: set[str] = set()
        pipeline.stt.on_worked = lambda provider: services.worked("stt", provider)
        pipeline.tts.on_worked = lambda provider: services.worked("tts", provider)

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

    async def prepare(self, content: TemplateContent) -> ServiceKeys:
        """Connect the services of an agent who may get the call, or backups of them.

        Raises:
            ServiceFailed: one of them could not be connected.
        """
        pipeline = self._pipeline
        keys = await asyncio.gather(
            *(self._prepare(switch, content) for switch in (pipeline.stt, pipeline.llm, pipeline.tts)),
            return_exceptions=True,  # so that the failure of one does not leave another one's unretrieved
        )
        for key in keys:
            if isinstance(key, BaseException):
                raise key
        stt, llm, tts = cast(list[str], keys)
        return ServiceKeys(stt=stt, llm=llm, tts=tts)

    async def _prepare(self, switch: ServiceSwitch, content: TemplateContent) -> str:
        kind, spec = _kind(switch), self._new(switch, content)
        for more in range(self._services.others(kind, content), -1, -1):
            timeout_s = ATTEMPT_TIMEOUT_S if more else PREPARE_TIMEOUT_S
            try:
                await switch.prepare(spec, timeout_s=timeout_s)
            except ServiceFailed as error:
                self._services.failed(kind, spec, error.error, error.reason)
                if not more:
                    raise
                spec = self._new(switch, content)
        return spec.key

    async def probe(self, content: TemplateContent) -> None:
        """Try whether preferred services that other calls found failing work again; the call does not wait.

        A service that does is used by the next call.
        """
        for spec in await self._services.to_probe(content, self._pipeline.tts.requested):
            switch = self._pipeline.stt if spec.key.startswith("stt") else self._pipeline.tts
            try:
                await switch.prepare(spec, timeout_s=ATTEMPT_TIMEOUT_S)
            except ServiceFailed as error:
                self._services.failed(_kind(switch), spec, error.error, error.reason)
            else:
                self._services.connected(_kind(switch), spec)

    def switch_of(self, key: str) -> ServiceSwitch | None:
        """The switch whose active service has this key."""
        switches = (self._pipeline.stt, self._pipeline.llm, self._pipeline.tts)
        return next((switch for switch in switches if switch.active == key), None)

    def reconnect(self, switch: ServiceSwitch) -> None:
        """Replace the active service, which failed, in the background; the new one gets the next frames.

        The task fails with ``ServiceLost`` if neither the service nor a backup can be connected.
        """
        work = self._reconnect(switch, self._agents.current.content)
        self._tasks.start(work, name=f"reconnecting the {switch.name} service", droppable=True)

    async def _reconnect(self, switch: ServiceSwitch, content: TemplateContent) -> None:
        if switch.name in self._reconnecting:
            return
        self._reconnecting.add(switch.name)
        self._services.blame(switch.active)
        try:
            await self._connect(switch, self._new(switch, content), content)
        finally:
            self._reconnecting.discard(switch.name)

    async def _connect(self, switch: ServiceSwitch, spec: ServiceSpec, content: TemplateContent) -> None:
        kind, before = _kind(switch), switch.active
        others = self._services.others(kind, content)
        attempt_s = LONE_STT_TIMEOUT_S if kind == "stt" and not others else ATTEMPT_TIMEOUT_S
        for pause_s in TTS_PAUSES_S if kind == "tts" else RECONNECT_PAUSES_S:
            for _ in range(others + 1):
                try:
                    await switch.replace(spec, timeout_s=attempt_s)
                except ServiceFailed as error:
                    self._services.failed(kind, spec, error.error, error.reason)
                    spec = self._new(switch, content)
                else:
                    self._services.connected(kind, spec)
                    if spec.key != before:
                        self._services.switched(before, spec.key)
                    return
            # Another agent's voice is better than silence.
            other = await switch.fall_back() if kind == "tts" else None
            if other is not None:
                self._services.switched(before, other)
                return
            await asyncio.sleep(pause_s)
        raise ServiceLost(switch.name)

    def _new(self, switch: ServiceSwitch, content: TemplateContent) -> ServiceSpec:
        if switch is self._pipeline.stt:
            return self._services.stt(content)
        if switch is self._pipeline.llm:
            return self._services.llm(content)[0]
        return self._services.tts(content, self._pipeline.tts.requested)


def _kind(switch: ServiceSwitch) -> ProviderKind:
    return cast(ProviderKind, switch.name)
