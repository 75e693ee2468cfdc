"""What a session stands on: one answered call, its line, and the works of the process.

Stated as protocols, because a call by telephone and one in text (``voicebot.call.text``) bring different ones
to the same session.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from pipecat.services.llm_service import LLMService

from db.events import EventRecord
from db.routes import RouteRecord
from db.utterances import UtteranceRecord
from handlers.context import CallContext, HandoffRequest
from telephony.carrier import MediaStream
from templates.compile import Function
from templates.model import HttpFunction, TemplateContent, Variable
from voicebot.call.transcript.writer import Entry
from voicebot.clock import Clock
from voicebot.providers.service_spec import OnRequest, ServiceSpec

CallFact = EventRecord | UtteranceRecord | RouteRecord
"""Something that is written down because it happened on the call."""


class CallFacts(Protocol):
    """Which call it is; ``db.calls.CallRecord`` of a telephone call."""

    @property
    def id(self) -> UUID:
        """The call."""
        ...

    @property
    def account_id(self) -> UUID:
        """Whose call it is."""
        ...

    @property
    def lead_id(self) -> UUID:
        """The lead it belongs to."""
        ...

    @property
    def template_id(self) -> UUID:
        """The agent the caller is with as the session begins."""
        ...


class CallEnder(Protocol):
    """Ends the call at the other side of the line: the carrier."""

    async def hang_up(self, carrier_call_id: str) -> None:
        """End a call; a call that is already gone is no error.

        Raises:
            CarrierError: it could not be ended.
        """
        ...


class Writer(Protocol):
    """Takes what is to be written, in order; ``ledger.Ledger`` writes it to the database."""

    def write(self, entry: Entry) -> None:
        """Have ``entry`` written after all earlier ones; returns at once."""
        ...

    async def flushed(self, timeout_s: float) -> bool:
        """Whether everything was written within ``timeout_s`` seconds; it will be later if not."""
        ...


class ServiceFactory(Protocol):
    """Makes an agent's services; ``voicebot.providers.registry.Providers`` makes those of vendors."""

    def stt(self, content: TemplateContent) -> ServiceSpec:
        """What turns the caller's side into text, and decides where their turns end."""
        ...

    def llm(self, content: TemplateContent) -> tuple[ServiceSpec, LLMService[Any]]:
        """The language model."""
        ...

    def tts(self, content: TemplateContent, on_request: OnRequest) -> ServiceSpec:
        """The agent's voice; ``on_request`` hears every text to be spoken, with its TTS context id."""
        ...


class ReadyGreetings(Protocol):
    """Greetings made ahead; ``voicebot.providers.greetings.Greetings`` has them synthesised."""

    def ready(self, account_id: UUID, content: TemplateContent, text: str) -> bytes | None:
        """The audio of ``text`` in the template's voice if it is at hand, without waiting."""
        ...

    async def prepare(self, account_id: UUID, content: TemplateContent, text: str) -> bytes:
        """Have the audio of ``text`` at hand.

        Raises:
            SynthesisFailed: it could not be made.
        """
        ...


class HttpBinder(Protocol):
    """Makes HTTP functions callable; ``handlers.http.HttpFunctions`` really makes their requests."""

    def bind(self, declaration: HttpFunction, variables: Sequence[Variable], call: CallContext) -> Function:
        """A declared function as a function of one call."""
        ...


CreateHandoffEntry = Callable[[CallFacts, HandoffRequest], Entry]
"""Makes the entry that hands a call to people; it is written in its place among the call's own."""


def _to_nobody(_: CallFact) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDependencies:
    """What a session stands on. ``tell`` is told of everything that happens, at once and before it is
    written; it must return at once.
    """

    call: CallFacts
    media: MediaStream
    carrier: CallEnder
    time_zone: ZoneInfo
    payload: Mapping[str, Any]
    writer: Writer
    speech: ServiceFactory
    greetings: ReadyGreetings
    http: HttpBinder
    clock: Clock
    tell: Callable[[CallFact], None] = _to_nobody
    recovers: bool = True
    """Whether the caller hears of a model's failure; in text it is the author's to see, and to ask again."""
    hand_off: CreateHandoffEntry | None = None
    """None: there are no people behind this line (a conversation in text)."""
