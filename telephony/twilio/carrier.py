"""Twilio as a `telephony.carrier.Carrier`: webhooks, REST and media under one name."""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.websockets import WebSocket

from telephony.carrier import (
    AnswerUrls,
    CallStatus,
    DialRequest,
    IncomingCall,
    Reply,
    StreamStatus,
    TransferRequest,
    WebhookRequest,
)
from telephony.twilio import webhooks
from telephony.twilio.media import TwilioMedia, accept_media
from telephony.twilio.rest import TwilioRest


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioAccount:
    """Whose calls these are.

    `public_url` is how Twilio reaches this server (`https://host`, with the prefix that a proxy strips, if
    any); None means that signatures are checked against the URL as seen. `api_url` replaces Twilio's own REST
    address.
    """

    account_sid: str
    auth_token: str = field(repr=False)
    public_url: str | None = None
    api_url: str | None = None


class TwilioCarrier:
    """One Twilio account; see the protocol for what each member promises."""

    name = "twilio"

    def __init__(self, account: TwilioAccount) -> None:
        """Use `account`; nothing is connected before the first REST request."""
        self._account = account
        self._rest = TwilioRest(account.account_sid, account.auth_token, api_url=account.api_url)

    def verify(self, request: WebhookRequest) -> None:
        """Return if the request carries this account's signature, else raise `BadSignature`."""
        webhooks.verify(request, self._account.auth_token, self._account.public_url)

    def incoming_call(self, request: WebhookRequest) -> IncomingCall:
        """The call of a voice or resume webhook."""
        return webhooks.incoming_call(request)

    def call_status(self, request: WebhookRequest) -> CallStatus:
        """The news of a status callback."""
        return webhooks.call_status(request)

    def stream_status(self, request: WebhookRequest) -> StreamStatus:
        """The news of a stream's callback."""
        return webhooks.stream_status(request)

    def answer(self, token: str, urls: AnswerUrls) -> Reply:
        """`<Connect><Stream>` with the token, then a `<Redirect>`."""
        return webhooks.answer(token, urls)

    def forbid(self) -> Reply:
        """403 with an empty body."""
        return webhooks.forbid()

    def reject(self) -> Reply:
        """`<Reject/>`."""
        return webhooks.reject()

    def hang_up_reply(self) -> Reply:
        """`<Hangup/>`."""
        return webhooks.hang_up_reply()

    def transfer_reply(self, transfer: TransferRequest) -> Reply:
        """`<Dial>` to another number."""
        return webhooks.transfer_reply(transfer)

    async def hang_up(self, carrier_call_id: str) -> None:
        """End a call; one that is gone already is no error."""
        await self._rest.hang_up(carrier_call_id)

    async def transfer(self, carrier_call_id: str, transfer: TransferRequest) -> None:
        """Connect a live call to another number."""
        await self._rest.transfer(carrier_call_id, transfer)

    async def dial(self, request: DialRequest) -> str:
        """Place a call and return its CallSid."""
        return await self._rest.dial(request)

    async def accept_media(self, websocket: WebSocket, *, start_timeout_s: float = 5.0) -> TwilioMedia:
        """Accept a media socket and read its beginning."""
        return await accept_media(websocket, start_timeout_s=start_timeout_s)

    async def aclose(self) -> None:
        """Close the connections to Twilio's REST API."""
        await self._rest.aclose()
