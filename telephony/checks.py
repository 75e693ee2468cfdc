"""`NumberCarrier`: a carrier whose API tells where it sends the calls of a number."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from telephony.carrier import Carrier


@runtime_checkable
class NumberCarrier(Carrier, Protocol):
    """A carrier whose numbers have a voice webhook that can be read."""

    async def voice_url_of(self, e164: str) -> str | None:
        """The voice webhook of a number, "" if it has none; None: the account has no such number.

        Raises:
            CarrierError: the carrier refused the request, or could not be reached.
        """
        ...
