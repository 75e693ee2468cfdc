"""The demo of outbound calls: a busy line is dialled again, the person talks, and webhooks report it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import web
from rich.console import Console

from voicebot.sandbox.caller import Caller, HangUp, Listen, Say
from voicebot.sandbox.carrier import Carrier, Phone
from voicebot.sandbox.demo.account import Api
from voicebot.sandbox.demo.call_log import follow
from voicebot.sandbox.demo.display import Display
from voicebot.sandbox.demo.run import CallTooLong, telephone

NUMBER = "+14155550100"
PERSON = "+14155550199"
ANSWER = "Tuesday would be good."
PHRASES = (ANSWER,)
RETRY_MS = 2000
_WAIT_S = 90.0
_EVERY_S = 0.1

TEMPLATE: Mapping[str, Any] = {
    "name": "Boiler check",
    "kind": "agent",
    "status": "active",
    "description": "Arranges the yearly check of a boiler.",
    "prompt": "You arrange the yearly check of a boiler. Ask which day suits, and thank the person.",
    "greeting": {"text": "Hello {{ customer }}, this is Acme Heating. Which day may we check your boiler?"},
    "variables": [{"name": "customer", "required": True, "description": "The person's name."}],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundResult:
    """The result of the demo."""

    lead: Mapping[str, Any]
    calls: tuple[Mapping[str, Any], ...]
    """The attempts, oldest first."""
    webhooks: tuple[Mapping[str, Any], ...]
    """The posted webhooks, in the order of arrival."""
    faults: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Plain data."""
        return {"ok": not self.faults, **asdict(self)}


class WebhookReceiver:
    """The author's server, which receives webhooks."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.address = ""
        self.is_finished = asyncio.Event()
        """Set when the end of a lead was posted."""

    async def receive(self, request: web.Request) -> web.Response:
        """Keep a posted webhook."""
        body = await request.json()
        self.received.append({**body, "signed": "webhook-signature" in request.headers})
        if body["type"] == "lead.finished":
            self.is_finished.set()
        return web.Response(status=204)


async def run_outbound(console: Console) -> OutboundResult:
    """Have the server dial a lead, which is busy at first, and print what happens.

    Raises:
        ServerFailed, SandboxFailed, Refused, CallTooLong: what did not work.
    """
    began = time.monotonic()
    console.print("Starting the vendors' stand-ins and the server …", style="bright_black")
    async with (
        _receiver() as hook,
        telephone(PHRASES, http_allow=hook.address, dials=True) as (api, carrier),
    ):
        assert isinstance(carrier, Carrier)  # noqa: S101 - the default carrier
        carrier.phones[PERSON] = Phone(outcome="busy")
        template, lead = await _lead(api, hook)
        display = Display(console, {template["id"]: template["name"]})
        display.note(f"A lead for {PERSON} ({time.monotonic() - began:.1f} s): its line is busy.")
        lead = await _until(api, lead, lambda now: now["attempts"] == 1 and now["status"] == "queued")
        display.note(f"Attempt 1: {lead['outcome']}. The next one at {lead['next_attempt_at']}.\n")
        person = Caller(script=(Listen(quiet_ms=500), Say(text=ANSWER), Listen(quiet_ms=500), HangUp()))
        carrier.phones[PERSON] = Phone(after_ms=500, person=person)
        lead = await _until(api, lead, lambda now: len(now["call_ids"]) == 2)
        async for line in follow(api, lead["call_ids"][1]):
            display.line(line)
        lead = await _until(api, lead, lambda now: now["status"] == "finished")
        await _reported(hook)
        calls = tuple([await api.get(f"/calls/{call_id}") for call_id in lead["call_ids"]])
        console.print(f"\n[bold]Lead[/] {lead['id']}: {lead['outcome']} after {lead['attempts']} attempts")
        for posted in hook.received:
            console.print(f"[bold]Webhook[/] {posted['type']}")
            console.print_json(data=posted["data"])
    found = tuple(_faults(lead, calls, hook.received))
    display.result(found, time.monotonic() - began)
    return OutboundResult(lead=lead, calls=calls, webhooks=tuple(hook.received), faults=found)


@asynccontextmanager
async def _receiver() -> AsyncIterator[WebhookReceiver]:
    hook = WebhookReceiver()
    application = web.Application()
    application.add_routes([web.post("/calls", hook.receive)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        hook.address = f"{host}:{port}"
        yield hook
    finally:
        await runner.cleanup()


async def _lead(api: Api, hook: WebhookReceiver) -> tuple[dict[str, Any], dict[str, Any]]:
    """The template and its lead."""
    number = await api.post("/numbers", {"e164": NUMBER, "label": "Acme Heating"})
    outbound = {
        "window": {"from": "00:00", "to": "24:00"},
        "retry": {"busy": RETRY_MS},
        "webhook_url": f"http://{hook.address}/calls",
        "output": {"day": {"type": "string", "description": "The day that suits the person"}},
    }
    template = await api.post("/templates", {**TEMPLATE, "outbound": outbound})
    body = {"phone": PERSON, "number_id": number["id"], "template_id": template["id"]}
    return template, await api.post("/leads", {**body, "payload": {"customer": "Ada"}})


async def _until(
    api: Api, lead: Mapping[str, Any], is_there: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """The lead, once it is as expected."""
    for _ in range(round(_WAIT_S / _EVERY_S)):
        now = await api.get(f"/leads/{lead['id']}")
        if is_there(now):
            return now
        await asyncio.sleep(_EVERY_S)
    raise CallTooLong(f"The lead was not dialled as expected within {_WAIT_S:.0f} s.")


async def _reported(hook: WebhookReceiver) -> None:
    """Wait until the end of the lead was posted, or for so long."""
    try:
        async with asyncio.timeout(_WAIT_S):
            await hook.is_finished.wait()
    except TimeoutError:
        raise CallTooLong("The end of the lead was not posted.") from None


def _faults(
    lead: Mapping[str, Any], calls: tuple[Mapping[str, Any], ...], webhooks: list[dict[str, Any]]
) -> list[str]:
    """What was not as expected."""
    outcomes = [call["outcome"] for call in calls]
    types = sorted(posted["type"] for posted in webhooks)
    expected = {
        f"the outcome of the lead is {lead['outcome']}": lead["outcome"] == "answered",
        f"the outcomes of the calls are {outcomes}": outcomes == ["busy", "answered"],
        f"the webhooks are {types}": types == ["call.ended", "call.ended", "lead.finished"],
        "a webhook is not signed": all(posted["signed"] for posted in webhooks),
    }
    return [fault for fault, is_right in expected.items() if not is_right]
