"""The dependencies of a session: an answered call, its media stream, and what the process shares.

Most are protocols, because telephone calls and text calls (``voicebot.call.text``) implement them
differently.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from pipecat.services.llm_service import LLMService

from db.events import EventRecord
from db.model_requests import ModelRequestRecord
from db.pool import Database
from db.provider_health import ProviderKind
from db.routes import RouteRecord
from db.utterances import UtteranceRecord
from handlers.context import CallContext, HandoffRequest
from telephony.media import MediaStream
from templates.compile import Function
from templates.model import HttpFunction, TemplateContent, Variable
from voicebot.clock import Clock
from voicebot.providers.llm_failover import LlmWatch
from voicebot.providers.provider import SpokenText
from voicebot.providers.service_spec import OnRequest, ServiceSpec

CallFact = EventRecord | UtteranceRecord | RouteRecord | ModelRequestRecord
"""A record of something that happened on a call."""

Entry = Callable[[Database], Awaitable[object]]
"""A write to the database that may be repeated."""


class CallFacts(Protocol):
    """The ids of a call; a telephone call's are in its ``db.calls.CallRecord``."""

    @property
    def id(self) -> UUID:
        """The call."""
        ...

    @property
    def account_id(self) -> UUID:
        """The account that the call belongs to."""
        ...

    @property
    def lead_id(self) -> UUID:
        """The lead that the call belongs to."""
        ...

    @property
    def handovers(self) -> int:
        """How many times the call was handed over to another process."""
        ...

    @property
    def template_id(self) -> UUID:
        """The template of the agent who has the call when the session begins."""
        ...


class CallEnder(Protocol):
    """Ends a call at the carrier."""

    async def hang_up(self, carrier_call_id: str) -> None:
        """End a call; a call that has ended already is no error.

        Raises:
            CarrierError: it could not be ended.
        """
        ...


class Writer(Protocol):
    """Writes a call's entries in order; ``CallWriter`` writes them to the database."""

    def write(self, entry: Entry) -> None:
        """Have ``entry`` written after all earlier ones; return at once."""
        ...

    async def flushed(self, timeout_s: float) -> bool:
        """Wait until everything is written; False if that took longer than ``timeout_s`` seconds."""
        ...


class ServiceFactory(Protocol):
    """Makes the services of an agent; ``voicebot.providers.registry.Providers`` makes those of vendors."""

    def stt(self, content: TemplateContent) -> ServiceSpec:
        """Speech to text, and the decision when the caller's turn ends."""
        ...

    def llm(
        self, content: TemplateContent, watch: LlmWatch | None = None
    ) -> tuple[ServiceSpec, LLMService[Any]]:
        """The language model; ``watch`` hears of its requests."""
        ...

    def tts(self, content: TemplateContent, on_request: OnRequest) -> ServiceSpec:
        """Text to speech; ``on_request`` is called with the TTS context id and text of every request."""
        ...


class Health(Protocol):
    """The state of the providers, shared by all calls; ``voicebot.providers.health.ProviderHealths``.

    Except for ``may_probe``, its methods return at once.
    """

    def is_usable(self, kind: ProviderKind, provider: str) -> bool:
        """Whether a provider is to be used; otherwise a backup is used if there is one."""
        ...

    def failed(self, kind: ProviderKind, provider: str, error: BaseException | None, reason: str) -> None:
        """Report that a provider failed; ``reason`` says why if there is no error."""
        ...

    def connected(self, kind: ProviderKind, provider: str) -> None:
        """Report that a provider accepted a connection."""
        ...

    def worked(self, kind: ProviderKind, provider: str) -> None:
        """Report that a provider fulfilled a request."""
        ...

    async def may_probe(self, kind: ProviderKind, provider: str) -> bool:
        """Whether this call is to probe a provider whose fault may be over."""
        ...


class ReadyGreetings(Protocol):
    """Greetings synthesised ahead of time."""

    def ready(self, spoken: SpokenText) -> bytes | None:
        """The audio of a text, if it is in memory: raw PCM, 16 bit, mono."""
        ...

    async def prepare(self, spoken: SpokenText) -> bytes:
        """Get the audio of a text into memory, and return it.

        Raises:
            SynthesisFailed: it could not be synthesised.
        """
        ...


class HttpBinder(Protocol):
    """Makes the functions of HTTP declarations."""

    def bind(self, declaration: HttpFunction, variables: Sequence[Variable], call: CallContext) -> Function:
        """The function of a declaration for one call."""
        ...


CreateHandoffEntry = Callable[[CallFacts, HandoffRequest], Entry]
"""Makes the entry that creates a handoff; it is written in order with the call's other entries."""


WithdrawHandoffEntry = Callable[[CallFacts, Literal["caller_returned", "wait_over"]], Entry]
"""Makes the entry that ends the call's open handoff, because the caller no longer waits."""


async def _no_recording(_: str) -> None:
    return None


def _ignore(_: CallFact) -> None:
    return None


async def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDependencies:
    """The dependencies of a session."""

    call: CallFacts
    media: MediaStream
    carrier: CallEnder
    time_zone: ZoneInfo
    payload: Mapping[str, Any]
    writer: Writer
    services: ServiceFactory
    greetings: ReadyGreetings
    http: HttpBinder
    clock: Clock
    on_fact: Callable[[CallFact], None] = _ignore
    """Called with every record of the call before it is written; must return at once."""
    has_phone: bool = True
    """Whether the person's number is known, so that they can be called back."""
    has_silence: bool = True
    """Whether there is silence; False for a text call, where the author sees failures and asks again."""
    health: Health | None = None
    """What is known of the providers of ``services``; None: nothing is (a text call)."""
    create_handoff: CreateHandoffEntry | None = None
    """None: no handoff can be created (a text call)."""
    withdraw_handoff: WithdrawHandoffEntry | None = None
    """None where ``create_handoff`` is."""
    transfer: Callable[[str], Awaitable[str | None]] | None = None
    """Has the carrier dial a number (E.164) for the caller; returns why not, or None. None: not possible."""
    dial: Callable[[str, str], Awaitable[UUID | None]] | None = None
    """Calls the destination of an attended transfer (name, E.164 number); returns the id of the leg."""
    is_with_person: Callable[[], Awaitable[bool]] = _never
    """Whether the stream ended because the carrier connects the caller with a person."""
    process_id: UUID | None = None
    """The process that has the call; None for a text call, which other processes do not look for."""
    recording: Callable[[str], Awaitable[bytes | None]] = _no_recording
    """Gets the recording at a URL: 16-bit mono PCM at the rate of ``media``; None if it cannot be played."""
