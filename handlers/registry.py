"""The explicit mapping from a function's name to its handler: nothing registers itself."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from handlers.current_time import CurrentTime
from handlers.end_call import EndCall
from handlers.escalate_to_person import EscalateToPerson
from handlers.handler import Handler
from handlers.park_call import ParkCall
from handlers.record_outcome import RecordOutcome
from handlers.route_to_agent import RouteToAgent

HANDLERS: Mapping[str, Handler[Any]] = MappingProxyType(
    {
        handler.name: handler
        for handler in (
            RouteToAgent(),
            EndCall(),
            RecordOutcome(),
            CurrentTime(),
            EscalateToPerson(),
            ParkCall(),
        )
    }
)

# What an author may list under a template's functions; routing is offered where routes are, unasked.
BUILTIN_FUNCTIONS: frozenset[str] = frozenset(HANDLERS) - {RouteToAgent.name}
