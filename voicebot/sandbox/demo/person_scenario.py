"""`voicebot demo --person`: who calls, who answers, what they say, and what is expected of the call."""

from __future__ import annotations

import asyncio

from voicebot.sandbox.caller import (
    Dtmf,
    ExpectAnotherVoice,
    HangUp,
    Listen,
    Say,
    Step,
    WaitFor,
    WaitForHangUp,
)

NUMBER = "+14155550100"
CALLER = "+14155550111"
CALLER_VOICE = "caller-0"
OPERATOR = "Grace"
OPERATOR_PHONE = "+14155550177"
OPERATOR_VOICE = "onwK4e9ZLuTAKqWW03F9"
TEMPLATE = "help_desk"
AGENT = "opening_hours"
RING_MS = 2500.0

ASKS = "Can I talk to a person, please?"
PROBLEM = "My boiler was billed twice."
BYE = "No, thank you. Goodbye."
PHRASES = (ASKS, BYE)
"""The caller's words to the agent; what is said to the operator is not transcribed."""

HELLO = "Hello, this is Grace. What happened?"
SOLUTION = "I have refunded the second bill. I will give you back now."

VOICES = ("A", "B", "A")
"""The voices that the caller hears: the agent's, the operator's, the agent's."""
LONGEST_SILENCE_MS = 4000.0
"""Twice what a server with time to spare needs; the demo runs on any machine."""

_QUIET_MS = 500.0
_WHISPER_MS = 1000.0
_LONG_MS = 60_000.0


def caller(joined: asyncio.Event) -> tuple[Step, ...]:
    """The steps of the caller; ``joined`` is set when they are connected with the operator."""
    another = ExpectAnotherVoice(quiet_ms=_QUIET_MS, timeout_ms=_LONG_MS)
    return (
        Listen(quiet_ms=_QUIET_MS),
        Say(text=ASKS),
        WaitFor(event=joined, timeout_ms=_LONG_MS),
        Listen(quiet_ms=_QUIET_MS),
        Say(text=PROBLEM),
        another,
        Say(text=BYE),
        Listen(quiet_ms=_QUIET_MS),
        HangUp(),
    )


def operator(joined: asyncio.Event) -> tuple[Step, ...]:
    """The steps of the operator, whose telephone rings."""
    return (
        Listen(quiet_ms=_WHISPER_MS, timeout_ms=_LONG_MS),
        Dtmf(digits="1"),
        WaitFor(event=joined, timeout_ms=_LONG_MS),
        Say(text=HELLO),
        Listen(quiet_ms=_QUIET_MS),
        Say(text=SOLUTION),
        Dtmf(digits="*"),
        WaitForHangUp(timeout_ms=_LONG_MS),
    )
