"""The carriers that this server uses."""

from __future__ import annotations

from collections.abc import Mapping

from telephony.carrier import Carrier
from telephony.exotel.carrier import ExotelAccount, ExotelCarrier
from telephony.twilio.carrier import TwilioAccount, TwilioCarrier
from voicebot.config import Settings

CARRIERS: Mapping[str, type[TwilioCarrier] | type[ExotelCarrier]] = {
    each.name: each for each in (TwilioCarrier, ExotelCarrier)
}
"""All carriers, by the name that numbers have."""


def carriers_of(settings: Settings) -> Mapping[str, Carrier]:
    """The carriers with credentials, by name. The webhooks of other carriers are answered with 404."""
    carriers: dict[str, Carrier] = {}
    if settings.twilio_account_sid and settings.twilio_auth_token:
        account = TwilioAccount(
            account_sid=settings.twilio_account_sid,
            auth_token=settings.twilio_auth_token.get_secret_value(),
            public_url=settings.public_url,
            api_url=settings.twilio_api_url,
            require_media_signature=settings.twilio_require_media_signature,
        )
        carriers[TwilioCarrier.name] = TwilioCarrier(account)
    if settings.exotel_webhook_secret:
        token = settings.exotel_api_token
        exotel = ExotelAccount(
            account_sid=settings.exotel_account_sid or "",
            api_key=settings.exotel_api_key or "",
            api_token=token.get_secret_value() if token else "",
            webhook_secret=settings.exotel_webhook_secret.get_secret_value(),
            api_url=settings.exotel_api_url,
            sample_rate=int(settings.exotel_sample_rate),
        )
        carriers[ExotelCarrier.name] = ExotelCarrier(exotel)
    return carriers
