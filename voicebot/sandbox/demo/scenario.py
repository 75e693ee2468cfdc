"""Who calls whom, what they say, and what should come of it."""

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
    "Tuesday would be good.",
    "No, thank you. Goodbye.",
)

_QUIET_MS = 500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """A change of agent that the story needs: the route's name, and whether the old voice says so."""

    name: str
    announced: bool


LEGS = (
    Leg(name="billing", announced=False),
    Leg(name="back", announced=False),
    Leg(name="technicians", announced=True),
)
FUNCTIONS = ("find_account", "record_outcome", "book_visit")
OUTCOME = "balance_told"
LAST_AGENT = "technicians"
VOICES = ("A", "B", "A", "C")
"""The agents' voices in the order they must be heard: the front desk's first and again after billing's."""
LONGEST_GAP_MS = 3500.0


def script() -> tuple[Step, ...]:
    """What the caller does; they know the agents only by what they hear."""
    invoice, number, back, boiler, day, bye = (Say(text=phrase) for phrase in PHRASES)
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
        another,
        day,
        heard,
        bye,
        heard,
        HangUp(),
    )
