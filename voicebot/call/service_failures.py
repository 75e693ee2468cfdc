"""Reacts to failures of a call's services: reconnects them, or ends the call if none works."""

from __future__ import annotations

from pipecat.frames.frames import ErrorFrame
from pipecat.utils.errors import ErrorCategory

from voicebot.call.agents import AgentPool
from voicebot.call.audio.connections import ServiceConnections
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.hangup import Hangup
from voicebot.call.preparation import AgentPreparation
from voicebot.call.services import CallServices
from voicebot.call.silence.watchdog import SilenceWatchdog


class ServiceFailures:
    """Reacts to the failures of one call's services."""

    def __init__(
        self,
        agents: AgentPool,
        pipeline: CallPipeline,
        services: CallServices,
        connections: ServiceConnections,
        preparation: AgentPreparation,
        silence: SilenceWatchdog,
        hangup: Hangup,
    ) -> None:
        """Nothing has failed yet."""
        self._agents = agents
        self._pipeline = pipeline
        self._services = services
        self._connections = connections
        self._preparation = preparation
        self._silence = silence
        self._hangup = hangup

    async def failed(self, key: str, frame: ErrorFrame) -> None:
        """The service with this key reported an error."""
        # An exception in a function is not a failure of the model, which gets it as a result.
        vendor_failed = frame.category is not ErrorCategory.APPLICATION
        self._services.error(key, frame.exception, is_vendors=vendor_failed)
        broken = frame.processor is not None and not frame.processor.is_usable
        switch = self._connections.switch_of(key)
        if switch is self._pipeline.stt and self._pipeline.stt.is_given_up:
            self._hangup.service_lost("stt")
            return
        if switch is self._pipeline.stt and switch.is_ready(key):
            # The vendor's client would reconnect too, but lose seconds of audio. A new service connects at
            # once and gets the audio that arrives meanwhile.
            switch.give_up(key)
            broken = True
        if switch is self._pipeline.tts and (broken or vendor_failed):
            self._silence.tts_failed()
        elif broken and switch is not None:
            self._connections.reconnect(switch)
        elif broken:
            self._preparation.service_lost(key)
        if switch is self._pipeline.llm and vendor_failed:
            self._silence.llm_failed()

    def replaced(self, before: str, after: str) -> None:
        """The current agent uses the service ``after`` in place of ``before``.

        Agents that share its STT use the new one too and stay ready; agents that share its TTS are connected
        again.
        """
        if self._pipeline.stt.is_ready(after):
            self._agents.service_replaced(before, after)
            return
        current = self._agents.current
        if current.keys is not None:
            current.keys = current.keys.replaced(before, after)
        self._preparation.service_lost(before)
