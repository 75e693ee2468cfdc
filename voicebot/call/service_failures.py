"""What is done when a service of a call fails: connect it again, have another one speak, or end the call."""

from __future__ import annotations

from pipecat.frames.frames import ErrorFrame
from pipecat.utils.errors import ErrorCategory

from voicebot.background import BackgroundTasks
from voicebot.call.agents import AgentPool
from voicebot.call.audio.connections import ServiceConnections
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.audio.service_switch import ServiceSwitch
from voicebot.call.failure_texts import failure_texts
from voicebot.call.hangup import End, Hangup
from voicebot.call.preparation import AgentPreparation
from voicebot.call.services import CallServices
from voicebot.call.silence.watchdog import SilenceWatchdog


class ServiceFailures:
    """Decides what is done about the failures of one call's services."""

    def __init__(
        self,
        agents: AgentPool,
        pipeline: CallPipeline,
        services: CallServices,
        connections: ServiceConnections,
        preparation: AgentPreparation,
        silence: SilenceWatchdog,
        hangup: Hangup,
        tasks: BackgroundTasks,
    ) -> None:
        """Nothing has failed yet."""
        self._agents = agents
        self._pipeline = pipeline
        self._services = services
        self._connections = connections
        self._preparation = preparation
        self._silence = silence
        self._hangup = hangup
        self._tasks = tasks

    async def failed(self, key: str, frame: ErrorFrame) -> None:
        """The service with this key reported an error."""
        # An exception of one of our functions is no failure of the model, which is told and goes on.
        vendor_failed = frame.category is not ErrorCategory.APPLICATION
        self._services.error(key, frame.exception, is_vendors=vendor_failed)
        broken = frame.processor is not None and not frame.processor.is_usable
        switch = self._connections.switch_of(key)
        if switch is self._pipeline.stt and self._pipeline.stt.is_given_up:
            self.lost("stt")
            return
        if switch is self._pipeline.stt and switch.is_ready(key):
            # The vendor's client would reconnect too, but hear nothing for seconds; a new service connects at
            # once and is given the audio that arrives meanwhile.
            switch.give_up(key)
            broken = True
        if switch is self._pipeline.tts and (broken or vendor_failed):
            self._silence.tts_failed()
        elif broken and switch is not None:
            self.reconnect(switch)
        elif broken:
            self._preparation.service_lost(key)
        if switch is self._pipeline.llm and vendor_failed:
            self._silence.llm_failed()

    def reconnect(self, switch: ServiceSwitch) -> None:
        """Connect the active service of a switch again, or a backup, in the background."""
        work = self._connections.reconnect(switch, self._agents.current.content)
        self._tasks.start(work, name=f"reconnecting the {switch.name} service", droppable=True)

    def lost(self, kind: str) -> None:
        """No service of a kind is left: end the call, with a word while a voice is connected."""
        end = End(ended_by="system", reason=f"{kind}_unavailable")
        if kind != "tts" and self._pipeline.tts.can_speak:  # we can speak, although we cannot hear
            self._hangup.start(end, failure_texts(self._agents.current.content.language).goodbye)
        else:
            self._tasks.start(self._hangup.finish_played(end), name="ending the call", droppable=True)

    def replaced(self, before: str, after: str) -> None:
        """The agent who has the call uses another service.

        Agents that share its STT use the other one too, so that they stay ready; a voice of their own is
        connected again.
        """
        if self._pipeline.stt.is_ready(after):
            self._agents.service_replaced(before, after)
            return
        current = self._agents.current
        if current.keys is not None:
            current.keys = current.keys.replaced(before, after)
        self._preparation.service_lost(before)
