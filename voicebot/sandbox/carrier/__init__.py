"""A simulated Twilio: signs webhooks, follows TwiML, streams at real pace, records both ways on one clock."""

from voicebot.sandbox.carrier.call import Call, Document, Fetch, Leg
from voicebot.sandbox.carrier.exchange import Carrier
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
