"""``ExotelCarrier``: Exotel as a ``telephony.flow.FlowCarrier``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, Field, SecretStr

from telephony.carrier import TransferRequest
from telephony.errors import BadWebhook
from telephony.exotel import webhooks
from telephony.exotel.media import accept_media
from telephony.exotel.messages import DEFAULT_RATE
from telephony.exotel.rest import ExotelRest
from telephony.kind import CarrierKind, Url
from telephony.webhook import AnswerUrls, StreamStatus, WebhookReply, WebhookRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class ExotelAccount:
    """An Exotel account, and the secret in the URLs of its flows.

    Attributes:
        account_sid: id of the account.
        api_key: user of the REST API.
        api_token: password of the REST API.
        webhook_secret: part of the path of every webhook.
        api_url: replaces the address of Exotel's REST API, which depends on the account's region.
        sample_rate: of the audio that Exotel is asked for, in Hz: 8000, 16000 or 24000.
        flow_id: id of the flow that placed calls follow; None: their audio is streamed directly.
    """

    account_sid: str
    api_key: str
    api_token: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    api_url: str | None = None
    sample_rate: int = DEFAULT_RATE
    flow_id: str | None = None


class ExotelCarrier(ExotelRest):
    """One Exotel account: the REST API, and the functions for webhooks and media sockets."""

    name = "exotel"
    webhook_names = frozenset({"voice", "to-person", "connect", "again", "status"})

    incoming_call = staticmethod(webhooks.incoming_call)
    call_status = staticmethod(webhooks.call_status)
    stream_end = staticmethod(webhooks.stream_end)
    dial_outcome = staticmethod(webhooks.dial_outcome)
    forbid = staticmethod(webhooks.forbid)
    reject = staticmethod(webhooks.reject)
    branch_reply = staticmethod(webhooks.branch_reply)
    connect_reply = staticmethod(webhooks.connect_reply)
    hang_up_reply = staticmethod(webhooks.hang_up_reply)
    wait_reply = staticmethod(webhooks.wait_reply)
    say_reply = staticmethod(webhooks.say_reply)
    transfer_reply = staticmethod(webhooks.transfer_reply)
    accept_media = staticmethod(accept_media)

    def __init__(self, account: ExotelAccount) -> None:
        """Use `account`; the first REST request opens a connection."""
        super().__init__(
            account.account_sid,
            account.api_key,
            account.api_token,
            api_url=account.api_url,
            flow_id=account.flow_id,
        )
        self.sample_rate = account.sample_rate
        self._account = account
        self.webhooks_path = f"/webhooks/{self.name}/{quote(account.webhook_secret, safe='')}"

    def verify(self, request: WebhookRequest) -> None:
        """Check the secret in the path of a webhook; see `webhooks.verify`.

        Raises:
            BadSignature: it is wrong.
        """
        account = self._account
        webhooks.verify(
            request,
            account.webhook_secret,
            [f"{account.api_key}:{account.api_token}"] if account.api_token else [],
        )

    def answer(self, token: str, urls: AnswerUrls) -> WebhookReply:
        """The URL of our media socket for the Voicebot applet; see `webhooks.answer`."""
        return webhooks.answer(token, urls, self.sample_rate)

    def verify_media(self, request: WebhookRequest) -> None:
        """Nothing is signed: the token in the path is the proof."""

    def stream_status(self, request: WebhookRequest) -> StreamStatus:
        """Exotel has no stream webhook: Passthru applets report how a stream ended.

        Raises:
            BadWebhook: always.
        """
        del request
        raise BadWebhook("StreamEvent", "Exotel has no stream webhook")

    async def transfer(self, carrier_call_id: str, transfer: TransferRequest) -> None:
        """Nothing is requested: the flow asks for the number when the media socket is closed."""


class ExotelVariables(BaseModel):
    """The environment variables of an Exotel account."""

    account_sid: str | None = Field(None, alias="EXOTEL_ACCOUNT_SID")
    api_key: str | None = Field(None, alias="EXOTEL_API_KEY")
    api_token: SecretStr | None = Field(None, alias="EXOTEL_API_TOKEN")
    webhook_secret: SecretStr | None = Field(None, alias="EXOTEL_WEBHOOK_SECRET")
    api_url: Url | None = Field(None, alias="EXOTEL_API_URL")
    sample_rate: Literal["8000", "16000", "24000"] = Field("8000", alias="EXOTEL_SAMPLE_RATE")
    flow_id: str | None = Field(None, alias="EXOTEL_FLOW_ID", pattern=r"^[A-Za-z0-9_-]{1,64}$")


def _carrier(variables: ExotelVariables, public_url: str | None) -> ExotelCarrier | None:
    del public_url  # nothing is signed
    if not variables.webhook_secret:
        return None
    return ExotelCarrier(
        ExotelAccount(
            account_sid=variables.account_sid or "",
            api_key=variables.api_key or "",
            api_token=variables.api_token.get_secret_value() if variables.api_token else "",
            webhook_secret=variables.webhook_secret.get_secret_value(),
            api_url=variables.api_url,
            sample_rate=int(variables.sample_rate),
            flow_id=variables.flow_id,
        )
    )


EXOTEL = CarrierKind(
    name=ExotelCarrier.name,
    variables=ExotelVariables,
    carrier=_carrier,
    to_take_calls=("EXOTEL_WEBHOOK_SECRET",),
    to_place_calls=("EXOTEL_ACCOUNT_SID", "EXOTEL_API_KEY", "EXOTEL_API_TOKEN"),
    to_transfer_dialled=("EXOTEL_FLOW_ID",),
    credentials=("EXOTEL_ACCOUNT_SID", "EXOTEL_API_KEY", "EXOTEL_API_TOKEN"),
    has_busy_tone=False,
)
