"""`BridgeCarrier`: connects a caller with a person, independent of the carrier.

The person is called first (`Carrier.dial`), hears a text and presses a key; then both calls join a
conference. `Carrier` contains what every carrier needs; this protocol adds what a bridge needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from telephony.carrier import Carrier
from telephony.webhook import EndReason, WebhookReply, WebhookRequest

Party = Literal["caller", "operator"]
"""A participant of a conference; its label at the carrier."""

AnsweredBy = Literal["human", "machine", "unknown"]
"""Who answered a call. `unknown`: the carrier did not try, or could not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whisper:
    """What a person hears before they are connected.

    Attributes:
        text: said in the carrier's own voice.
        language: BCP 47 tag of `text`.
        key_url: absolute URL that the carrier requests with the pressed key.
        silence_url: absolute URL that it requests if no key is pressed.
        key_timeout_s: seconds to wait for a key after the text.
    """

    text: str
    language: str
    key_url: str
    silence_url: str
    key_timeout_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConferenceJoin:
    """A party that joins a conference, which ends when either party leaves.

    Attributes:
        name: name of the conference, without personal data.
        party: who joins.
        then_url: absolute URL that the carrier requests for instructions when the party has left.
        events_url: absolute URL that the carrier informs of the conference.
    """

    name: str
    party: Party
    then_url: str
    events_url: str


@runtime_checkable
class BridgeCarrier(Carrier, Protocol):
    """A carrier that can connect a caller with a person."""

    def answered_by(self, request: WebhookRequest) -> AnsweredBy:
        """Who answered a call, from a verified webhook about it."""
        ...

    def pressed_key(self, request: WebhookRequest) -> str | None:
        """The key in a verified webhook; None: none was pressed."""
        ...

    def dial_outcome(self, request: WebhookRequest) -> EndReason | None:
        """How the connection of a transferred call with a number ended, from a verified webhook."""
        ...

    def whisper_reply(self, whisper: Whisper) -> WebhookReply:
        """Response that says a text and waits for a key."""
        ...

    def join_reply(self, join: ConferenceJoin) -> WebhookReply:
        """Response that moves the call into a conference. An operator leaves it with the key `*`."""
        ...

    async def join(self, carrier_call_id: str, join: ConferenceJoin) -> None:
        """Move a live call into a conference; its media stream ends. Not retried if it may have been done.

        Raises:
            CallIsOver: the call has ended.
            CarrierError: the carrier refused, or could not be reached; `uncertain` if it may have been done.
        """
        ...

    async def redirect(self, carrier_call_id: str, url: str) -> None:
        """Have the carrier request new instructions for a live call at `url`, an absolute URL.

        Raises:
            CallIsOver: the call has ended.
            CarrierError: the carrier refused, or could not be reached; `uncertain` if it may have been done.
        """
        ...
