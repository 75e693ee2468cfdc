"""Keeps the services of the agent who has the call connected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from templates.model import TemplateContent
from voicebot.call.audio.pipeline import CallPipeline, InitialServices
from voicebot.call.audio.service_switch import ServiceSwitch
from voicebot.call.dependencies import ServiceFactory
from voicebot.providers.service_spec import OnRequest, ServiceFailed, ServiceSpec

RECONNECT_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 4.0)

Report = Callable[[str, str], None]


class ServiceLost(Exception):
    """A service could not be connected, however often it was tried; ``kind`` is ear, mind or voice."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"the {kind} cannot be connected")
        self.kind = kind


class ServiceConnections:
    """Connects and reconnects, each time with fresh processors, since broken ones do not mend."""

    def __init__(
        self, pipeline: CallPipeline, speech: ServiceFactory, on_request: OnRequest, report: Report
    ) -> None:
        """``report`` is told of every failure: the kind of service and the reason."""
        self._pipeline = pipeline
        self._speech = speech
        self._on_request = on_request
        self._report = report
        self._mending: set[str] = set()

    async def begin(self, first: InitialServices, content: TemplateContent) -> None:
        """Connect what the answering agent needs.

        Raises:
            ServiceLost: one of them could not be connected.
        """
        pipeline = self._pipeline
        await asyncio.gather(
            self._connect(pipeline.stt, first.stt, content),
            self._connect(pipeline.llm, first.llm, content),
            self._connect(pipeline.tts, first.tts, content),
        )

    def switch_of(self, key: str) -> ServiceSwitch | None:
        """The switch in which the part with this key is the active one."""
        switches = (self._pipeline.stt, self._pipeline.llm, self._pipeline.tts)
        return next((switch for switch in switches if switch.active == key), None)

    async def mend(self, switch: ServiceSwitch, content: TemplateContent) -> None:
        """Replace the active part, which broke down; what comes meanwhile is kept for the new one.

        Raises:
            ServiceLost: it could not be connected again.
        """
        if switch.name in self._mending:
            return
        self._mending.add(switch.name)
        try:
            await self._connect(switch, self._fresh(switch, content), content)
        finally:
            self._mending.discard(switch.name)

    async def _connect(self, switch: ServiceSwitch, part: ServiceSpec, content: TemplateContent) -> None:
        for pause_s in RECONNECT_PAUSES_S:
            try:
                return await switch.prepare(part)
            except ServiceFailed as error:
                self._report(switch.name, error.reason)
            await asyncio.sleep(pause_s)
            part = self._fresh(switch, content)
        raise ServiceLost(switch.name)

    def _fresh(self, switch: ServiceSwitch, content: TemplateContent) -> ServiceSpec:
        if switch is self._pipeline.stt:
            return self._speech.stt(content)
        if switch is self._pipeline.llm:
            return self._speech.llm(content)[0]
        return self._speech.tts(content, self._on_request)
