"""The mapping from the name of a built-in function to its handler."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from handlers.cancel_escalation import CancelEscalation
from handlers.current_time import CurrentTime
from handlers.end_call import EndCall
from handlers.escalate_to_person import EscalateToPerson
from handlers.handler import Handler
from handlers.park_call import ParkCall
from handlers.record_outcome import RecordOutcome
from handlers.route_to_agent import RouteToAgent
from handlers.send_dtmf import SendDtmf
from handlers.transfer_to_number import TransferToNumber

HANDLERS: Mapping[str, Handler[Any]] = MappingProxyType(
    {
        handler.name: handler
        for handler in (
            RouteToAgent(),
            EndCall(),
            RecordOutcome(),
            CurrentTime(),
            EscalateToPerson(),
            CancelEscalation(),
            ParkCall(),
            TransferToNumber(),
            SendDtmf(),
        )
    }
)

BUILTIN_FUNCTIONS: frozenset[str] = frozenset(HANDLERS) - {
    RouteToAgent.name,
    CancelEscalation.name,
}
"""Names that an author may list in a template's functions.

``route_to_agent`` is offered automatically, and with ``escalate_to_person`` also ``cancel_escalation``.
"""
