"""Transfers of this process's calls at their carriers; ``transfer`` decides about them within a call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

from loguru import logger

from db import bridged_calls, calls
from db.calls import CallRecord
from db.errors import DatabaseError
from db.pool import Database
from telephony.carrier import Carrier, TransferRequest
from telephony.errors import CarrierError
from telephony.flow import FlowCarrier, can_transfer
from telephony.media import MediaStream
from voicebot.background import BackgroundTasks
from voicebot.call.person.transfer import CARRIER_ERROR, NOT_POSSIBLE

WITH_PERSON_TIMEOUT_S = 1.0

TRANSFER = "transfer"
"""The URL parameter of the carrier's request after the connection with a dialled number has ended."""

DialDestination = Callable[[CallRecord, str, str, str], Awaitable[UUID | None]]
"""Calls a destination for a call, by its name, its number (E.164), and this server's URL for carriers."""


class CarrierTransfers:
    """Transfers calls at their carriers."""

    def __init__(
        self,
        database: Database,
        carriers: Mapping[str, Carrier],
        public_url: str | None,
        dial: DialDestination | None,
        background: BackgroundTasks,
    ) -> None:
        """``dial`` calls the destination of an attended transfer; None: there are no attended transfers."""
        self._database = database
        self._carriers = carriers
        self._public_url = public_url
        self._dial = dial
        self._background = background

    async def transfer(self, media: MediaStream, call: CallRecord, number: str) -> str | None:
        """Have the carrier dial a number for a call; return why the call stays, or None."""
        carrier = self._carriers[call.carrier]
        if not can_transfer(carrier, was_dialled=call.direction == "outbound"):
            return NOT_POSSIBLE
        ours = call.to_number if call.direction == "inbound" else call.from_number
        then = f"{self._public_url}{carrier.webhooks_path}/resume?{TRANSFER}=1" if self._public_url else None
        request = TransferRequest(to=number, caller_id=ours, then_url=then)
        try:
            left = await bridged_calls.begin_transfer(self._database, call.account_id, call.id, number)
            if left is None or left.carrier_call_id is None:
                return CARRIER_ERROR
            await carrier.transfer(left.carrier_call_id, request)
        except DatabaseError:
            return CARRIER_ERROR
        except CarrierError as error:
            logger.warning("call {}: not transferred: {}", call.id, error)
            await bridged_calls.cancel_transfer(self._database, call.account_id, call.id)
            return CARRIER_ERROR
        if isinstance(carrier, FlowCarrier):
            await media.close()  # the flow then asks for the number
        return None

    async def dial(self, call: CallRecord, name: str, number: str) -> UUID | None:
        """Call the destination of an attended transfer; return the id of the leg, or None if refused."""
        if self._dial is None or self._public_url is None:
            return None
        return await self._dial(call, name, number, self._public_url)

    async def is_with_person(self, call: CallRecord) -> bool:
        """Whether a call whose stream ended is with a person; False if the database does not answer."""
        reading = calls.get(self._database, call.account_id, call.id)
        try:
            now = await self._background.in_time(reading, WITH_PERSON_TIMEOUT_S, name="reading a call")
        except (TimeoutError, DatabaseError):
            return False
        return now.status == "transferring"
