"""Steps of a caller's script, and the report of how each went."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

DEFAULT_QUIET_MS = 700.0
DEFAULT_TIMEOUT_MS = 15_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Wait until the agent has spoken since the last step and has then been quiet for `quiet_ms`."""

    quiet_ms: float = DEFAULT_QUIET_MS
    timeout_ms: float = DEFAULT_TIMEOUT_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """Say something, to its end."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupt:
    """Wait until the agent has been speaking for `after_ms`, then talk over it."""

    text: str
    after_ms: float = 500.0
    timeout_ms: float = DEFAULT_TIMEOUT_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Keep still for a while, whatever the agent does."""

    ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitFor:
    """Keep still until an event is set, whatever the agent does."""

    event: asyncio.Event
    timeout_ms: float = DEFAULT_TIMEOUT_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectAnotherVoice:
    """Wait until another voice than before the caller's last words has spoken and is silent again."""

    quiet_ms: float = DEFAULT_QUIET_MS
    timeout_ms: float = DEFAULT_TIMEOUT_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectSameVoice:
    """Check that the last voice heard is the one from before the caller's last words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dtmf:
    """Press keys."""

    digits: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitForHangUp:
    """Wait until the other side ends the call."""

    timeout_ms: float = DEFAULT_TIMEOUT_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class HangUp:
    """End the call."""


Step = (
    Listen
    | Say
    | Interrupt
    | Wait
    | WaitFor
    | ExpectAnotherVoice
    | ExpectSameVoice
    | Dtmf
    | WaitForHangUp
    | HangUp
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """How a step went; times are ms since the answer."""

    step: Step
    started_ms: float
    ended_ms: float
    voice: str | None
    """The voice heard last, as a label in the order of hearing (A, B, C); None when none has spoken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the whole script went."""

    steps: tuple[StepReport, ...]
    failure: str | None
    """Why the caller gave up; None when every step was done."""

    @property
    def ok(self) -> bool:
        """Whether the script was done to its end."""
        return self.failure is None
