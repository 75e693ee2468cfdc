"""A simulated Twilio: signs webhooks, follows TwiML, streams at real pace, records both ways on one clock.

    settings = CarrierSettings(public_url=url, account_sid="AC…", auth_token="…")
    async with Carrier(settings) as carrier:
        call = carrier.call(from_="+15550100", to="+15550199", person=Caller(script=(Listen(), HangUp())))
        await call.ended()
    call.status, call.ended_by      # "completed", "caller" | "twiml" | "rest" | "carrier"
    call.complaints                 # what Twilio would have reported as an error: () when all is well
    call.events                     # webhook, answered, media.first, mark.*, clear, stream.closed (code), …
    call.streams[0].arrivals        # each `media` message: when it came, when it sounds
    call.line.lateness()            # how well this machine kept the pace
    wav.write("call.wav", call.recording()); analysis.analyse(call.recording())

Calls go wrong to order by `Misbehaviour`; telephones to be dialled are `carrier.phones`; Twilio's REST over
the live calls is `voicebot.sandbox.carrier.rest.TwilioRest(carrier).application()`.
"""

from voicebot.sandbox.carrier.call import Call, Document, Fetch, Leg
from voicebot.sandbox.carrier.carrier import Carrier
from voicebot.sandbox.carrier.line import Lateness, Line, LineDead
from voicebot.sandbox.carrier.model import (
    CallStatus,
    CarrierError,
    CarrierEvent,
    CarrierSettings,
    Misbehaviour,
    NotLive,
    Person,
    Phone,
    PhoneCall,
    Recording,
    TwimlError,
    WebhookFailed,
)
from voicebot.sandbox.carrier.timeline import SAMPLE_RATE, TICK, TICK_MS

__all__ = [
    "SAMPLE_RATE",
    "TICK",
    "TICK_MS",
    "Call",
    "CallStatus",
    "Carrier",
    "CarrierError",
    "CarrierEvent",
    "CarrierSettings",
    "Document",
    "Fetch",
    "Lateness",
    "Leg",
    "Line",
    "LineDead",
    "Misbehaviour",
    "NotLive",
    "Person",
    "Phone",
    "PhoneCall",
    "Recording",
    "TwimlError",
    "WebhookFailed",
]
