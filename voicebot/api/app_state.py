"""The state of the application that routers use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol
from uuid import UUID

from fastapi import Depends
from starlette.requests import HTTPConnection

from db.call_ends import EndWithEvent, Finished
from db.calls import CallRecord
from db.pool import Database
from telephony.bridge import BridgeCarrier
from telephony.carrier import Carrier
from telephony.flow import FlowCarrier
from telephony.media import MediaStream
from voicebot.admission import Admission
from voicebot.api.carriers.handshakes import Handshakes
from voicebot.api.carriers.media_tokens import MediaTokens
from voicebot.api.carriers.number_directory import NumberDirectory
from voicebot.api.carriers.settled_requests import SettledRequests
from voicebot.api.carriers.status_writer import StatusWriter
from voicebot.api.connections import Connections
from voicebot.api.limits import Limits
from voicebot.api.open_streams import OpenStreams
from voicebot.api.signed_token import SignedTokens
from voicebot.authoring import Authoring
from voicebot.background import BackgroundTasks
from voicebot.batches import Batches
from voicebot.call.text.chats import Chats
from voicebot.clock import Clock
from voicebot.config import Settings
from voicebot.dispatch.machines import AnsweringMachines
from voicebot.handoffs.handoff_runtime import HandoffRuntime
from voicebot.metrics import Metrics
from voicebot.other_workers import OtherWorkers
from voicebot.providers.health import ProviderHealths
from voicebot.vault import Vault


@dataclass(frozen=True, slots=True)
class EndGrace:
    """How long a carrier's status waits for a better source of how a call ended, in seconds."""

    own_s: float = 2.0
    """For the media socket of a call in this process, which reports a hang-up first and knows who hung up."""
    others_s: float = 15.0
    """For another process that may run the call and write how it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """Limits of the event stream."""

    send_timeout_s: float = 10.0
    """A client that leaves sent data unread for longer is disconnected, in seconds."""


class CallTakeover(Protocol):
    """The takeover of a live call; implemented by ``voicebot.call.person.takeover.Takeover``."""

    @property
    def ended(self) -> asyncio.Event:
        """Set when the call has ended."""
        ...

    @property
    def speaks(self) -> bool:
        """Whether the operator has the call, and the agent is silent."""
        ...

    def listen(self, listener: Callable[[bytes], None]) -> bool:
        """Give the caller's audio (16-bit PCM, 16,000 Hz) to ``listener``; False: there is one already."""
        ...

    async def begin(self) -> None:
        """Give the call to the operator."""
        ...

    async def speak(self, audio: bytes) -> None:
        """Play audio (16-bit PCM, 16,000 Hz) to the caller."""
        ...

    async def leave(self) -> bool:
        """End the takeover; return whether the operator had the call, which goes back to the agent."""
        ...


class LiveCalls(Protocol):
    """The calls that this process runs; implemented by ``voicebot.call.registry.CallRegistry``."""

    async def answer(self, media: MediaStream, call: CallRecord) -> None:
        """Run one call to its end."""
        ...

    async def end(
        self, call_id: UUID, *, ended_by: Literal["caller", "operator", "carrier", "system"], reason: str
    ) -> bool:
        """End a call; False if it is not a live call of this process."""
        ...

    def takeover(self, call_id: UUID) -> CallTakeover | None:
        """The takeover of a call; None: it is not a live call of this process."""
        ...

    @property
    def live(self) -> int:
        """Number of calls that this process runs."""
        ...

    @property
    def ended_calls(self) -> int:
        """Number of calls that this process has run to their end."""
        ...

    @property
    def takes_answers(self) -> bool:
        """Whether people whom this process has called are still connected, although it is stopping."""
        ...

    async def drain(self, timeout_s: float) -> None:
        """Wait for the calls to end; after ``timeout_s`` seconds another process takes the others over."""
        ...

    async def prepare(self, call: CallRecord) -> None:
        """Load the data of a call before its media stream begins."""
        ...

    def known(self, call_id: UUID) -> CallRecord | None:
        """The record of a call that was passed to ``prepare`` within the last minute."""
        ...

    async def close(self, timeout_s: float) -> None:
        """End the remaining calls, and wait up to ``timeout_s`` seconds for their writes."""
        ...

    async def prepare_greetings(self, account_id: UUID, template_id: UUID) -> None:
        """Synthesise an active template's greetings before a call needs them."""
        ...

    async def announcement(self, account_id: UUID, template_id: UUID, text: str, sample_rate: int) -> bytes:
        """A text before an agent answers, in a template's voice: 16-bit mono PCM; empty: synthesis failed."""
        ...


@dataclass(slots=True, kw_only=True)
class AppState:
    """The parts of one running server."""

    settings: Settings
    database: Database
    carriers: Mapping[str, Carrier]
    bridge_carriers: Mapping[str, BridgeCarrier]
    """The carriers that can connect a caller with an operator in a conference."""
    flow_carriers: Mapping[str, FlowCarrier]
    """The carriers whose calls follow a flow."""
    call_registry: LiveCalls
    admission: Admission
    other_workers: OtherWorkers
    authoring: Authoring
    chats: Chats
    clock: Clock
    metrics: Metrics
    background: BackgroundTasks
    handoffs: HandoffRuntime
    machines: AnsweringMachines
    vault: Vault
    stream_tokens: SignedTokens
    """The tokens of the event stream."""
    media_tokens: MediaTokens
    status_writer: StatusWriter
    unanswered_ends: Batches[EndWithEvent, Finished]
    """Ends calls of which the carrier reports the end, unless they were answered."""
    limits: Limits
    connections: Connections
    number_directory: NumberDirectory
    provider_health: ProviderHealths
    handshakes: Handshakes
    open_streams: OpenStreams
    settled_requests: SettledRequests = field(default_factory=SettledRequests)
    grace: EndGrace = field(default_factory=EndGrace)
    stream_limits: StreamLimits = field(default_factory=StreamLimits)
    draining: bool = False
    """Set on shutdown: the server finishes its calls and takes no new ones."""


async def app_state(connection: HTTPConnection) -> AppState:
    """A dependency: the state of the application that handles the request.

    It is a coroutine, as all dependencies are, because FastAPI calls a function in a thread.
    """
    state: AppState = connection.app.state.app_state
    return state


AppStateDep = Annotated[AppState, Depends(app_state)]
