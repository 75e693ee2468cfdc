"""A third carrier, in one module: JSON webhooks with a secret in a header, and Exotel's media messages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from pydantic import BaseModel, Field, SecretStr
from starlette.websockets import WebSocket

from telephony.carrier import Carrier, DialRequest, TransferRequest
from telephony.errors import BadSignature, BadWebhook, CarrierError
from telephony.exotel.media import media_format
from telephony.exotel.messages import parse, refusal
from telephony.kind import CarrierKind
from telephony.media import MediaStart
from telephony.socket_media import SocketMedia, accept_socket
from telephony.webhook import (
    AnswerUrls,
    CallStatus,
    IncomingCall,
    StreamStatus,
    WebhookReply,
    WebhookRequest,
)


class AcmeCarrier:
    """One account of Acme; it answers webhooks, and places no calls."""

    name = "acme"
    webhooks_path = "/webhooks/acme"
    webhook_names = frozenset({"voice", "status"})
    sample_rate = 8000

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def verify(self, request: WebhookRequest) -> None:
        """Compare the secret in the header."""
        if request.headers.get("x-acme-secret") != self._secret:
            raise BadSignature("wrong secret")

    def verify_media(self, request: WebhookRequest) -> None:
        """The token in the start message is the proof."""

    def incoming_call(self, request: WebhookRequest) -> IncomingCall:
        """`{"call", "from", "to"}`."""
        fields = json.loads(request.body)
        return IncomingCall(
            carrier_call_id=fields["call"],
            from_=fields["from"],
            to=fields["to"],
            direction="inbound",
            caller_known=True,
        )

    def call_status(self, request: WebhookRequest) -> CallStatus:
        """`{"call", "hung_up": true}`."""
        return CallStatus(
            carrier_call_id=json.loads(request.body)["call"],
            status="ended",
            terminal=True,
            end_reason="completed",
            duration_ms=None,
            carrier_status="completed",
            sequence=None,
            error_code=None,
        )

    def stream_status(self, request: WebhookRequest) -> StreamStatus:
        """Acme reports no streams."""
        raise BadWebhook("stream", f"{request.url} is unknown")

    def answer(self, token: str, urls: AnswerUrls) -> WebhookReply:
        """Where Acme opens its socket, and what it presents there."""
        return _reply(connect=urls.media_url, token=token)

    def forbid(self) -> WebhookReply:
        """401."""
        return WebhookReply(status=401, content_type="application/json", body="{}")

    def reject(self, *, busy: bool = False) -> WebhookReply:
        """Reject the call."""
        return _reply(reject="busy" if busy else "declined")

    def hang_up_reply(self) -> WebhookReply:
        """End the call."""
        return _reply(hang_up=True)

    def wait_reply(self, pause_s: int, then_url: str) -> WebhookReply:
        """Wait, then ask again."""
        return _reply(wait_s=pause_s, then=then_url)

    def say_reply(self, text: str, language: str, then_dial: str | None = None) -> WebhookReply:
        """Say a text."""
        return _reply(say=text, language=language, dial=then_dial)

    def transfer_reply(self, transfer: TransferRequest) -> WebhookReply:
        """Dial a number."""
        return _reply(dial=transfer.to)

    async def hang_up(self, carrier_call_id: str) -> None:
        """The call ends with its socket."""

    async def transfer(self, carrier_call_id: str, transfer: TransferRequest) -> None:
        """Acme transfers no call in progress."""
        raise CarrierError(f"{carrier_call_id} cannot be led to {transfer.to}", status=0)

    async def dial(self, request: DialRequest) -> str:
        """Acme places no calls."""
        raise CarrierError(f"{request.to} cannot be dialled", status=0)

    async def is_live(self, carrier_call_id: str) -> bool:
        """A call is live while its socket is open."""
        return bool(carrier_call_id)

    async def find_calls(self, *, from_: str, to: str, since: datetime) -> Sequence[str]:
        """No call was placed."""
        del from_, to, since
        return []

    async def check_account(self) -> None:
        """There is no REST API."""

    async def accept_media(self, websocket: WebSocket, *, start_timeout_s: float = 5.0) -> SocketMedia:
        """Exotel's messages, with the token as a parameter of `start`."""
        socket, start = await accept_socket(websocket, parse, refusal, start_timeout_s=start_timeout_s)
        facts = MediaStart(
            stream_id=start.stream_sid,
            carrier_call_id=start.call_sid,
            account_ref="",
            token=start.parameters.get("token", ""),
            parameters=start.parameters,
        )
        return SocketMedia(socket, facts, media_format(start))

    async def aclose(self) -> None:
        """There are no connections."""


class AcmeVariables(BaseModel):
    """The environment variables of an account."""

    secret: SecretStr | None = Field(None, alias="ACME_SECRET")


def _carrier(variables: AcmeVariables, public_url: str | None) -> Carrier | None:
    del public_url
    return AcmeCarrier(variables.secret.get_secret_value()) if variables.secret else None


ACME = CarrierKind(
    name=AcmeCarrier.name,
    variables=AcmeVariables,
    carrier=cast("Any", _carrier),
    to_take_calls=("ACME_SECRET",),
    credentials=("ACME_SECRET",),
    has_busy_tone=True,
)


def _reply(**content: object) -> WebhookReply:
    return WebhookReply(status=200, content_type="application/json", body=json.dumps(content))
