"""The protocol through which a handler touches the call: small on purpose.

A handler sees no session, no pipeline and no connection; whoever writes one needs to know this page only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

RefusalCode = Literal[
    "unknown_agent", "not_ready", "hop_limit", "ping_pong", "already_routing", "invalid_variables"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """An agent the current agent may route to now: its ``name`` and ``when`` to choose it."""

    name: str
    when: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """The call will change agent; the current agent says nothing more."""

    agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The call stays where it is; ``message`` tells the model how to go on."""

    code: RefusalCode
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffRequest:
    """What the caller needs of people: one now (``escalate``), or to be called later (``park``)."""

    intent: Literal["escalate", "park"]
    reason: str
    priority: Literal["low", "normal", "high", "urgent"] = "normal"
    due_at: datetime | None = None
    """Of a park, with its zone; None: as soon as somebody can."""
    origin: Literal["model", "failed_route", "failed_model"] = "model"


class CallContext(Protocol):
    """One live call as its handlers see it."""

    @property
    def call_id(self) -> UUID:
        """The call's id."""
        ...

    @property
    def time_zone(self) -> ZoneInfo:
        """The time zone of the number that was called."""
        ...

    def now(self) -> datetime:
        """The current moment, in UTC."""
        ...

    def destinations(self) -> tuple[Destination, ...]:
        """The agents that can take the call now; ``back`` is among them where the author allows it."""
        ...

    def agents_are_coming(self) -> bool:
        """Whether agents are still being made ready, so that more may be offered in a moment."""
        ...

    async def route(self, agent: str, *, reason: str, variables: Mapping[str, Any]) -> Routed | Refused:
        """Hand the call to another agent, or say why not."""
        ...

    async def end(self, *, reason: str, outcome: str | None = None) -> None:
        """End the call once everything said so far has been heard."""
        ...

    async def record_outcome(self, outcome: str, fields: Mapping[str, Any]) -> None:
        """Write what came of the call on the lead."""
        ...

    def hand_off(self, request: HandoffRequest) -> None:
        """Have people told of the caller, once all that was said is written; nothing waits for it."""
        ...

    async def say(self, text: str) -> None:
        """Speak ``text`` in the current agent's voice, as a filler while something takes time."""
        ...

    def keep(self, values: Mapping[str, Any]) -> None:
        """Set variables of the current agent; prompts see them from the next node on."""
        ...

    def variables(self) -> Mapping[str, Any]:
        """The current agent's variables."""
        ...
