"""``TwilioCarrier``: Twilio as a ``telephony.carrier.Carrier``."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel, Field, SecretStr

from telephony.kind import CarrierKind, Url
from telephony.twilio import bridge, webhooks
from telephony.twilio.media import accept_media
from telephony.twilio.messages import SAMPLE_RATE
from telephony.twilio.rest import TwilioRest
from telephony.webhook import WebhookRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioAccount:
    """A Twilio account and the addresses of both sides.

    Attributes:
        account_sid: id of the account.
        auth_token: secret of the account, for the REST API and for signatures.
        public_url: URL under which Twilio reaches this server (`https://host`, with the path prefix that a
            proxy removes, if any). None: signatures are checked against the URL as seen by this server.
        api_url: replaces the address of Twilio's REST API.
        require_media_signature: whether the handshake of a media socket must be signed. False: a signature is
            verified if there is one.
    """

    account_sid: str
    auth_token: str = field(repr=False)
    public_url: str | None = None
    api_url: str | None = None
    require_media_signature: bool = False


class TwilioCarrier(TwilioRest):
    """One Twilio account: the REST API, and the functions for webhooks and media sockets."""

    name = "twilio"
    webhooks_path = "/webhooks/twilio"
    sample_rate = SAMPLE_RATE
    webhook_names = frozenset(
        {
            "voice",
            "menu",
            "status",
            "stream",
            "resume",
            "machine",
            "leg",
            "whisper",
            "key",
            "left",
            "conference",
        }
    )

    incoming_call = staticmethod(webhooks.incoming_call)
    call_status = staticmethod(webhooks.call_status)
    stream_status = staticmethod(webhooks.stream_status)
    answer = staticmethod(webhooks.answer)
    forbid = staticmethod(webhooks.forbid)
    reject = staticmethod(webhooks.reject)
    hang_up_reply = staticmethod(webhooks.hang_up_reply)
    wait_reply = staticmethod(webhooks.wait_reply)
    say_reply = staticmethod(webhooks.say_reply)
    transfer_reply = staticmethod(webhooks.transfer_reply)
    accept_media = staticmethod(accept_media)
    answered_by = staticmethod(bridge.answered_by)
    detection = staticmethod(bridge.detection)
    pressed_key = staticmethod(bridge.pressed_key)
    dial_outcome = staticmethod(bridge.dial_outcome)
    whisper_reply = staticmethod(bridge.whisper_reply)
    join_reply = staticmethod(bridge.join_reply)

    def __init__(self, account: TwilioAccount) -> None:
        """Use `account`; the first REST request opens a connection."""
        super().__init__(account.account_sid, account.auth_token, api_url=account.api_url)
        self._account = account

    def verify_media(self, request: WebhookRequest) -> None:
        """Check the signature of a media socket's handshake; see `webhooks.verify_media`.

        Raises:
            BadSignature: the signature is wrong, or missing and required.
        """
        account = self._account
        webhooks.verify_media(
            request, account.auth_token, account.public_url, required=account.require_media_signature
        )

    def verify(self, request: WebhookRequest) -> None:
        """Check the signature of a webhook; see `webhooks.verify`.

        Raises:
            BadSignature: the signature is missing or wrong.
        """
        webhooks.verify(request, self._account.auth_token, self._account.public_url)


class TwilioVariables(BaseModel):
    """The environment variables of a Twilio account."""

    account_sid: str | None = Field(None, alias="TWILIO_ACCOUNT_SID")
    auth_token: SecretStr | None = Field(None, alias="TWILIO_AUTH_TOKEN")
    require_media_signature: bool = Field(False, alias="TWILIO_REQUIRE_MEDIA_SIGNATURE")
    api_url: Url | None = Field(None, alias="TWILIO_API_URL")


def _carrier(variables: TwilioVariables, public_url: str | None) -> TwilioCarrier | None:
    if not (variables.account_sid and variables.auth_token):
        return None
    return TwilioCarrier(
        TwilioAccount(
            account_sid=variables.account_sid,
            auth_token=variables.auth_token.get_secret_value(),
            public_url=public_url,
            api_url=variables.api_url,
            require_media_signature=variables.require_media_signature,
        )
    )


TWILIO = CarrierKind(
    name=TwilioCarrier.name,
    variables=TwilioVariables,
    carrier=_carrier,
    to_take_calls=("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"),
    credentials=("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"),
    has_busy_tone=True,
)
