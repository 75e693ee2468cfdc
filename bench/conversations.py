"""What the callers of the benches say, and which agent the scripted model routes them to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PITCHES = {
    "frontvoice0000000001": 250,
    "billingvoice00000002": 500,
    "workshopvoice0000003": 1000,
    "returnsvoice00000004": 1500,
}
"""The voices, and the pitch of each in Hz: a tone that cannot be taken for another."""

FRONT, BILLING, WORKSHOP, RETURNS = PITCHES


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation.

    Attributes:
        utterances: what the caller says, one after another.
        routes: the agent to whom the model routes a caller whose words contain a word.
        repeats: whether the last utterance is repeated until the caller hangs up.
    """

    utterances: tuple[str, ...]
    routes: Mapping[str, str]
    repeats: bool = False

    def route_of(self, words: str) -> str | None:
        """The agent to whom the words lead."""
        return next((agent for word, agent in self.routes.items() if word in words), None)


ASK_HOURS = "when do you open tomorrow"
ASK_BILLING = "there is a mistake in my invoice"
ASK_BACK = "please take me back to the front desk"
ASK_WORKSHOP = "my bicycle needs a repair"
ASK_RETURNS = "i want to send a parcel back"

CONVERSATIONS = {
    # One route, then a turn about every 6 s.
    "density": Conversation(
        utterances=(ASK_HOURS, ASK_BILLING, ASK_HOURS), routes={"invoice": "billing"}, repeats=True
    ),
    "two turns": Conversation(utterances=(ASK_HOURS, ASK_BILLING), routes={"invoice": "billing"}),
    # An ordinary turn, and a route of each kind.
    "routes": Conversation(
        utterances=(ASK_HOURS, ASK_BILLING, ASK_BACK, ASK_WORKSHOP, ASK_BACK, ASK_RETURNS),
        routes={"invoice": "billing", "front desk": "back", "repair": "workshop", "parcel": "returns"},
    ),
}
