"""``CallContext``: the protocol through which a handler uses the call.

A handler has no access to the session, the pipeline or the database; this protocol is all that it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from templates.model import Variable

RefusalCode = Literal[
    "unknown_agent",
    "not_ready",
    "hop_limit",
    "ping_pong",
    "already_routing",
    "invalid_variables",
    "call_ending",
    "unknown_destination",
    "transfer_failed",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """An agent that the current agent may route to.

    Attributes:
        name: the route's name.
        when: when to choose it.
        description: what the agent does.
        variables: those that the current agent may give to it.
    """

    name: str
    when: str
    description: str = ""
    variables: tuple[Variable, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """The route was accepted: the call changes to ``agent``, and the current agent says nothing more."""

    agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The route was refused: the call stays with its agent; ``message`` is for the model."""

    code: RefusalCode
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffRequest:
    """A request for a person: now (``escalate``), or a call back later (``park``)."""

    intent: Literal["escalate", "park"]
    reason: str
    priority: Literal["low", "normal", "high", "urgent"] = "normal"
    due_at: datetime | None = None
    """Time of the call back, with a time zone; None: as soon as possible. Only for ``park``."""
    origin: Literal["model", "failed_route", "failed_model"] = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffStatus:
    """The latest request of a live call for a person, as the queue has it."""

    handoff_id: UUID
    phase: Literal["waiting", "claimed", "connected", "ended"]
    """``claimed``: an operator has it; ``connected``: the caller talks to the operator."""
    leaves: bool = False
    """Whether the call is about to be connected with the operator by telephone."""
    cause: str | None = None
    """Why it ended or returned to the queue."""
    someone_is_there: bool = True
    """While it waits: whether an operator who may be offered it is present."""
    expected_wait_ms: int | None = None
    """While it waits: how long the account's callers usually wait; None: unknown."""


class CallContext(Protocol):
    """One live call as its handlers see it."""

    @property
    def call_id(self) -> UUID:
        """The call's id."""
        ...

    @property
    def has_phone(self) -> bool:
        """Whether the person's number is known, so that they can be called back."""
        ...

    @property
    def time_zone(self) -> ZoneInfo:
        """The time zone of the number that was called."""
        ...

    def now(self) -> datetime:
        """The current time in UTC."""
        ...

    def destinations(self) -> tuple[Destination, ...]:
        """The agents that are ready to take the call, including ``back`` if the route allows a return."""
        ...

    def agents_are_coming(self) -> bool:
        """Whether agents are still being prepared, so that ``destinations`` may grow."""
        ...

    async def route(self, agent: str, *, reason: str, variables: Mapping[str, Any]) -> Routed | Refused:
        """Route the call to another agent, or return why it was refused."""
        ...

    async def end(self, *, reason: str, outcome: str | None = None) -> Refused | None:
        """End the call when the caller has heard everything that was said, or return why it goes on."""
        ...

    def transfer(self, destination: str) -> Refused | None:
        """Connect the caller with a declared destination when everything said was heard; or say why not."""
        ...

    async def press_keys(self, keys: str) -> Refused | None:
        """Send keys as tones when everything said was handed to the carrier, or say why not."""
        ...

    async def record_outcome(self, outcome: str, fields: Mapping[str, Any]) -> None:
        """Store the outcome of the call in its lead."""
        ...

    def hand_off(self, request: HandoffRequest) -> None:
        """Create a handoff in the background, after the transcript so far has been written."""
        ...

    def cancel_hand_off(self) -> bool:
        """The caller does not wait for a person any more; False: nobody was asked for."""
        ...

    async def say(self, text: str) -> None:
        """Speak ``text`` in the current agent's voice while the caller waits for a result."""
        ...

    async def keep(self, values: Mapping[str, Any]) -> None:
        """Set variables of the current agent; its role has them from the model's next answer on."""
        ...

    def variables(self) -> Mapping[str, Any]:
        """The current agent's variables."""
        ...
