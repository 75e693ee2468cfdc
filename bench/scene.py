"""The call that is measured: an ordinary turn, a silent route, an announced one, one to a ready greeting.

Every agent has a voice that is told from the others in the recording, so that a figure is only taken where
the right agent really spoke.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.world import NUMBER, World
from voicebot.sandbox.caller import HangUp, Listen, Say, Step

# 67, 101, 146 and 209 Hz: nobody takes one for another.
DESK, BILLING, WORKSHOP, RETURNS = VOICES = ("voice-3", "voice-8", "voice-17", "voice-19")
WELCOME = "Hello, this is Acme."
HOURS = "Acme is open from eight to five."
BILLING_SPEAKS = "Billing speaking, how may I help you?"
FAREWELL = "One moment, I will put you through."
WORKSHOP_SPEAKS = "Workshop speaking, how may I help you?"
RETURNS_SPEAKS = "Returns speaking, how may I help you?"

ASKS_HOURS = "When are you open?"
WANTS_BILLING = "I have a question about my invoice."
WANTS_BACK = "Please take me back to the front desk."
WANTS_WORKSHOP = "My bicycle needs a repair."
WANTS_RETURNS = "I want to send a parcel back."
PHRASES = (ASKS_HOURS, WANTS_BILLING, WANTS_BACK, WANTS_WORKSHOP, WANTS_RETURNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What the caller says, and how the answer begins: in whose voice, with which words."""

    asked: str
    voice: str
    answer: str


ORDINARY = Turn(asked=ASKS_HOURS, voice=DESK, answer=HOURS)
SILENT = Turn(asked=WANTS_BILLING, voice=BILLING, answer=BILLING_SPEAKS)
ANNOUNCED = Turn(asked=WANTS_WORKSHOP, voice=WORKSHOP, answer=WORKSHOP_SPEAKS)
GREETED = Turn(asked=WANTS_RETURNS, voice=RETURNS, answer=RETURNS_SPEAKS)

SCRIPT: tuple[Step, ...] = (
    Listen(),
    Say(text=ASKS_HOURS), Listen(),
    Say(text=WANTS_BILLING), Listen(),
    Say(text=WANTS_BACK), Listen(),
    Say(text=WANTS_WORKSHOP), Listen(quiet_ms=1500),
    Say(text=WANTS_BACK), Listen(),
    Say(text=WANTS_RETURNS), Listen(),
    HangUp(),
)  # fmt: skip


async def author(world: World) -> None:
    """Make the number and the templates."""
    number = await world.made("/numbers", {"e164": NUMBER})
    billing = await world.made("/templates", _agent("Billing", BILLING, f'Say "{BILLING_SPEAKS}" first.'))
    factory = await world.made("/templates", _agent("Workshop", WORKSHOP, f'Say "{WORKSHOP_SPEAKS}" first.'))
    greeted = _agent("Returns", RETURNS, "Find out what is to be returned.")
    returns = await world.made("/templates", {**greeted, "greeting": {"text": RETURNS_SPEAKS}})
    routes = [
        _route("billing", billing, "The caller asks about an invoice, a bill or a payment."),
        _route("workshop", factory, "The caller's bicycle needs a repair.", announce=FAREWELL),
        _route("returns", returns, "The caller wants to send a parcel."),
    ]
    desk = _agent("Front desk", DESK, f"{HOURS} Route the caller.")
    await world.made(
        "/templates",
        {
            **desk,
            "kind": "orchestrator",
            "number_id": number["id"],
            "greeting": {"text": WELCOME},
            "routes": routes,
        },
    )


def _agent(name: str, voice: str, task: str) -> dict[str, object]:
    return {
        "name": name,
        "status": "active",
        "description": f"{name} of Acme.",
        "prompt": f"You are {name.lower()} of Acme. {task}",
        "tts": {"voice_id": voice},
    }


def _route(
    name: str, template: dict[str, object], when: str, announce: str | None = None
) -> dict[str, object]:
    return {"name": name, "template_id": template["id"], "when": when, "announce": announce}
