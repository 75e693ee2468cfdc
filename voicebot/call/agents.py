"""A template in its role on one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pipecat.flows import Flow

from templates.model import Route, TemplateContent

BACK = "back"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceKeys:
    """Which parts of the switches an agent works with."""

    stt: str
    llm: str
    tts: str

    def __contains__(self, key: str) -> bool:
        return key in (self.stt, self.llm, self.tts)


@dataclass(slots=True, kw_only=True, eq=False)
class Agent:
    """One agent of a call, from the moment it is known until the call ends.

    ``route`` is the way to it (None: it answered the call). ``flow`` and ``keys`` are there once it is ready;
    ``problem`` says why it never will be. ``values`` are its variables, kept while others have the call.
    """

    name: str
    route: Route | None
    template_id: UUID
    revision: int
    content: TemplateContent
    values: dict[str, Any] = field(default_factory=dict)
    flow: Flow | None = None
    keys: ServiceKeys | None = None
    problem: str | None = None

    @property
    def known_as(self) -> str:
        """Its name in what is kept of the call: the route's; no route is called as the one who answered."""
        return self.name if self.route is not None else BACK

    @property
    def is_ready(self) -> bool:
        """Whether the call can change to it at once."""
        return self.keys is not None and self.flow is not None

    @property
    def may_return(self) -> bool:
        """Whether it may give the caller back to the one who routed."""
        return self.route is not None and self.route.can_return

    def with_values(self, values: Mapping[str, Any]) -> None:
        """Set some of its variables."""
        self.values = {**self.values, **values}
