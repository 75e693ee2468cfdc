"""A simulated Exotel: follows the documented flow of applets, streams at real pace, checks what it is sent.

    settings = ExotelSettings(public_url=url, secret="…")
    async with Exotel(settings) as carrier:
        call = carrier.call(from_="09876543210", to="08012345678", person=Caller(script=(Listen(), HangUp())))
        await call.ended()
    call.ended_by, call.complaints, call.events, call.recording(), call.streams

The flow is Voicebot → Passthru "to a person?" → Connect → Passthru "again?" → Voicebot or Hangup. A message
of audio that Exotel would not take is a complaint. Telephones that can be dialled are `carrier.phones`.
"""

from voicebot.sandbox.exotel.call import ExotelCall
from voicebot.sandbox.exotel.carrier import Exotel
from voicebot.sandbox.exotel.model import ExotelMisbehaviour, ExotelSettings

__all__ = ["Exotel", "ExotelCall", "ExotelMisbehaviour", "ExotelSettings"]
