"""`FlowCarrier`: a carrier whose calls follow a flow of the customer, which asks us at each branch.

When the media socket closes, the flow continues: it asks whether to connect the caller with a number, then
whether to open another media socket; otherwise it ends the call. There are no requests for a call in
progress: a call is transferred or ended by closing its socket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from telephony.bridge import BridgeCarrier
from telephony.carrier import Carrier
from telephony.webhook import EndReason, WebhookReply, WebhookRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnd:
    """What a flow reports of the stream that has ended.

    Attributes:
        by: who ended it; None: neither party, or it is not reported.
        failed: whether the carrier counts it as failed.
        error: the carrier's text about it.
    """

    by: Literal["caller", "us"] | None
    failed: bool
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A number with which the caller is to be connected. Numbers are E.164.

    Attributes:
        to: the number.
        caller_id: the number shown there; None: the carrier's default.
        ring_timeout_s: how long to let it ring.
    """

    to: str
    caller_id: str | None
    ring_timeout_s: int = 30


@runtime_checkable
class FlowCarrier(Carrier, Protocol):
    """A carrier that asks at each branch of a flow."""

    @property
    def dials_into_flow(self) -> bool:
        """Whether calls that it places follow the flow; otherwise they cannot be transferred or resumed."""
        ...

    def branch_reply(self, taken: bool) -> WebhookReply:
        """Response to a question of the flow: whether its branch is taken."""
        ...

    def connect_reply(self, connection: Connection | None) -> WebhookReply:
        """Response that names the number to connect the caller with; None: nobody."""
        ...

    def stream_end(self, request: WebhookRequest) -> StreamEnd | None:
        """What a verified webhook reports of the stream that has ended; None: nothing."""
        ...

    def dial_outcome(self, request: WebhookRequest) -> EndReason | None:
        """How the connection with a number ended, from a verified webhook; None: it is not reported.

        `canceled`: the caller hung up before somebody answered there.
        """
        ...

    async def connected_outcome(self, carrier_call_id: str) -> EndReason | None:
        """The same, asked of the carrier; None: it does not know of a connection.

        Raises:
            CarrierError: the carrier could not be reached.
        """
        ...


def can_transfer(carrier: Carrier, *, was_dialled: bool) -> bool:
    """Whether a call can be connected with another party: a call that was placed without a flow cannot."""
    return not was_dialled or not isinstance(carrier, FlowCarrier) or carrier.dials_into_flow


PersonCarrier = BridgeCarrier | FlowCarrier
"""A carrier that can connect a caller with a person by telephone."""
