"""Who calls, what is said, and what is expected of the call."""

from __future__ import annotations

from dataclasses import dataclass

from voicebot.sandbox.caller import ExpectAnotherVoice, HangUp, Listen, Say, Step

NUMBER = "+14155550100"
CALLER = "+14155550111"
CALLER_VOICE = "caller-0"

PHRASES = (
    "I have a question about my invoice.",
    "My number is four four seven one.",
    "Please take me back to the front desk.",
    "My boiler needs a repair.",
    "Nine four one one zero.",
    "Tuesday would be good.",
    "No, thank you. Goodbye.",
)

_QUIET_MS = 500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedRoute:
    """A change of agent: the route's name, and whether the old agent announces it."""

    name: str
    announced: bool


ROUTES = (
    ExpectedRoute(name="billing", announced=False),
    ExpectedRoute(name="back", announced=False),
    ExpectedRoute(name="technicians", announced=True),
)
FUNCTIONS = ("find_account", "record_outcome", "book_visit")
OUTCOME = "balance_told"
LAST_AGENT = "technicians"
VOICES = ("A", "B", "A", "C")
"""The agents' voices in the order they are heard: the front desk's is first, and again after billing's."""
VISIT = "Tuesday in 94110"
"""The visit that the caller books: the day, and the postal code that the front desk has asked for."""

LONGEST_GAP_MS = 3500.0


def script() -> tuple[Step, ...]:
    """Return the steps of the caller, who distinguishes the agents only by their voices."""
    invoice, number, back, boiler, code, day, bye = (Say(text=phrase) for phrase in PHRASES)
    heard, another = Listen(quiet_ms=_QUIET_MS), ExpectAnotherVoice(quiet_ms=_QUIET_MS)
    return (
        heard,
        invoice,
        another,
        number,
        heard,
        back,
        another,
        boiler,
        heard,
        code,
        another,
        day,
        heard,
        bye,
        heard,
        HangUp(),
    )
