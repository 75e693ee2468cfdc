"""Derives the outcome of a call from its record. Pure functions.

This table is the only place that derives an outcome. An outcome that the agent recorded takes precedence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from db.calls import CallRecord, Direction

Failure = Literal["busy", "no_answer", "voicemail", "failed", "dropped"]
"""Why an attempt did not reach the person; each has its own pause before the next attempt."""

Derived = Literal[Failure, "answered", "abandoned", "refused"]
"""``abandoned``: an inbound call that ended before it was answered; ``refused``: one that we did not take."""

_OF_UNANSWERED: Mapping[Direction, Mapping[str, Derived]] = {
    "outbound": {
        "busy": "busy",
        "hangup": "no_answer",  # answered at the carrier, and hung up before the agent was connected
        "no_answer": "no_answer",
        "canceled": "no_answer",
        "never_connected": "no_answer",
        "voicemail": "voicemail",
        "process_lost": "dropped",
        "stream_lost": "dropped",
        "stt_unavailable": "dropped",
        "llm_unavailable": "dropped",
        "tts_unavailable": "dropped",
        "no_capacity": "dropped",
    },
    "inbound": {
        "no_capacity": "refused",
        "refused": "refused",
        "busy": "abandoned",
        "no_answer": "abandoned",
        "canceled": "abandoned",
        "completed": "abandoned",
        "hangup": "abandoned",
        "never_connected": "abandoned",
    },
}
"""By the end reason of a call that nobody answered; every other reason: ``failed``."""

_OF_ANSWERED: Mapping[str, Derived] = {
    "voicemail": "voicemail",
    "process_lost": "dropped",
    "stream_lost": "dropped",
    "stt_unavailable": "dropped",
    "llm_unavailable": "dropped",
    "tts_unavailable": "dropped",
    "no_capacity": "dropped",
}
"""By the end reason of a call that was answered; every other reason: ``answered``."""

_FAILURES: Mapping[str, Failure] = {
    "busy": "busy",
    "no_answer": "no_answer",
    "voicemail": "voicemail",
    "failed": "failed",
    "dropped": "dropped",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a call.

    Attributes:
        name: the recorded outcome.
        failure: why the person of an outbound call was not reached; None: they were, or the call is inbound.
    """

    name: str
    failure: Failure | None


def outcome_of(call: CallRecord, *, talks_to_machines: bool = False) -> Outcome:
    """The outcome of an ended call; a machine is no person unless its template talks to machines."""
    is_machine = call.answered_by == "machine" and not talks_to_machines
    derived: Derived = "voicemail" if is_machine else _derived(call)
    if call.direction == "inbound" or (call.answered_at is not None and call.outcome is not None):
        return Outcome(call.outcome or derived, None)
    return Outcome(derived, _FAILURES.get(derived))


def _derived(call: CallRecord) -> Derived:
    reason = call.end_reason or ""
    if call.answered_at is None:
        return _OF_UNANSWERED[call.direction].get(reason, "failed")
    return _OF_ANSWERED.get(reason, "answered")
