"""The agents of `bench.route` and `bench.load`, and a server with them, light vendors and light callers."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass

from bench.conversations import BILLING, CONVERSATIONS, FRONT, RETURNS, WORKSHOP
from bench.density import bench_process, vendor_variables
from bench.environment import NUMBER, PUBLIC_URL, VoicebotServer, voicebot_server
from bench.light_callers import Carrier
from bench.light_exotel import CARRIER as EXOTEL
from bench.light_exotel import ExotelCarrier
from voicebot.sandbox.carrier import CarrierSettings
from voicebot.sandbox.environment import EXOTEL_WEBHOOK_SECRET, TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN
from voicebot.sandbox.exotel import ExotelSettings

WELCOME = "Hello, this is Acme."
ANNOUNCEMENT = "One moment, I will put you through."
RETURNS_GREETING = "Returns speaking, how may I help you?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A server with four agents, and the carrier that calls it."""

    server: VoicebotServer
    carrier: Carrier | ExotelCarrier


@contextlib.asynccontextmanager
async def running_scenario(
    conversation: str = "routes", carrier_name: str = "twilio"
) -> AsyncIterator[Scenario]:
    """Start all processes with an empty database, and stop them at the end.

    ``conversation`` is what callers say, one of `CONVERSATIONS` that begins as "routes" does.
    ``carrier_name`` is `twilio` or `exotel`.
    """
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="voicebot-bench-"))
        command = [sys.executable, "-m", "bench.light_vendors", "--conversation", "routes"]
        vendors, _ = await stack.enter_async_context(bench_process(command))
        variables = {**vendor_variables(vendors["url"]), "EXOTEL_WEBHOOK_SECRET": EXOTEL_WEBHOOK_SECRET}
        server = await stack.enter_async_context(voicebot_server(variables, directory))
        await _create_templates(server, carrier_name)
        carrier = _carrier(server, carrier_name, conversation)
        stack.push_async_callback(carrier.close)
        yield Scenario(server=server, carrier=carrier)


def _carrier(server: VoicebotServer, name: str, conversation: str) -> Carrier | ExotelCarrier:
    said = CONVERSATIONS[conversation]
    if name == EXOTEL:
        flow = ExotelSettings(public_url=PUBLIC_URL, server_url=server.url, secret=EXOTEL_WEBHOOK_SECRET)
        return ExotelCarrier(flow, NUMBER, said)
    settings = CarrierSettings(
        public_url=PUBLIC_URL,
        server_url=server.url,
        account_sid=TWILIO_ACCOUNT_SID,
        auth_token=TWILIO_AUTH_TOKEN,
    )
    return Carrier(settings, NUMBER, said)


async def _create_templates(server: VoicebotServer, carrier_name: str) -> None:
    """Create the number, three agents and the orchestrator that answers the number."""
    create = server.create
    number = await create("/numbers", {"e164": NUMBER, "carrier": carrier_name})
    billing = await create("/templates", _agent("Billing", BILLING))
    workshop = await create("/templates", _agent("Workshop", WORKSHOP))
    greeting = {"greeting": {"text": RETURNS_GREETING}}
    returns = await create("/templates", {**_agent("Returns", RETURNS), **greeting})
    routes = [
        _route("billing", billing, "The caller asks about an invoice, a bill or a payment."),
        _route("workshop", workshop, "The caller's bicycle needs a repair.", announce=ANNOUNCEMENT),
        _route("returns", returns, "The caller wants to send a parcel."),
    ]
    await create(
        "/templates",
        {
            **_agent("Front desk", FRONT),
            "kind": "orchestrator",
            "number_id": number["id"],
            "greeting": {"text": WELCOME},
            "routes": routes,
        },
    )


def _agent(name: str, voice: str) -> dict[str, object]:
    return {
        "name": name,
        "status": "active",
        "description": f"{name} of Acme.",
        "prompt": f"You are {name.lower()} of Acme.",
        "tts": {"voice_id": voice},
    }


def _route(
    name: str, template: dict[str, object], when: str, announce: str | None = None
) -> dict[str, object]:
    return {"name": name, "template_id": template["id"], "when": when, "announce": announce}
