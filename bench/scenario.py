"""The measured call: an ordinary turn, a silent route, an announced route, a route to a prepared greeting.

Every agent has a voice that can be distinguished in the recording, so a figure is taken only where the right
agent spoke.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.environment import NUMBER, BenchEnvironment
from voicebot.sandbox.caller import HangUp, Listen, Say, Step

# Fundamental frequencies 67, 101, 146 and 209 Hz.
FRONT_DESK, BILLING, WORKSHOP, RETURNS = VOICES = ("voice-3", "voice-8", "voice-17", "voice-19")
WELCOME = "Hello, this is Acme."
HOURS = "Acme is open from eight to five."
BILLING_ANSWER = "Billing speaking, how may I help you?"
ANNOUNCEMENT = "One moment, I will put you through."
WORKSHOP_ANSWER = "Workshop speaking, how may I help you?"
RETURNS_GREETING = "Returns speaking, how may I help you?"

ASK_HOURS = "When are you open?"
ASK_BILLING = "I have a question about my invoice."
ASK_BACK = "Please take me back to the front desk."
ASK_WORKSHOP = "My bicycle needs a repair."
ASK_RETURNS = "I want to send a parcel back."
PHRASES = (ASK_HOURS, ASK_BILLING, ASK_BACK, ASK_WORKSHOP, ASK_RETURNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What the caller says, and the voice and first words of the answer."""

    question: str
    voice: str
    answer: str


ORDINARY_TURN = Turn(question=ASK_HOURS, voice=FRONT_DESK, answer=HOURS)
SILENT_ROUTE = Turn(question=ASK_BILLING, voice=BILLING, answer=BILLING_ANSWER)
ANNOUNCED_ROUTE = Turn(question=ASK_WORKSHOP, voice=WORKSHOP, answer=WORKSHOP_ANSWER)
GREETING_ROUTE = Turn(question=ASK_RETURNS, voice=RETURNS, answer=RETURNS_GREETING)

SCRIPT: tuple[Step, ...] = (
    Listen(),
    Say(text=ASK_HOURS), Listen(),
    Say(text=ASK_BILLING), Listen(),
    Say(text=ASK_BACK), Listen(),
    Say(text=ASK_WORKSHOP), Listen(quiet_ms=1500),
    Say(text=ASK_BACK), Listen(),
    Say(text=ASK_RETURNS), Listen(),
    HangUp(),
)  # fmt: skip


async def create_templates(environment: BenchEnvironment) -> None:
    """Create the number, three agents and the orchestrator that answers the number."""
    create = environment.create
    number = await create("/numbers", {"e164": NUMBER})
    billing = await create("/templates", _agent("Billing", BILLING, f'Say "{BILLING_ANSWER}" first.'))
    workshop = await create("/templates", _agent("Workshop", WORKSHOP, f'Say "{WORKSHOP_ANSWER}" first.'))
    returns = await create(
        "/templates",
        {
            **_agent("Returns", RETURNS, "Find out what is to be returned."),
            "greeting": {"text": RETURNS_GREETING},
        },
    )
    routes = [
        _route("billing", billing, "The caller asks about an invoice, a bill or a payment."),
        _route("workshop", workshop, "The caller's bicycle needs a repair.", announce=ANNOUNCEMENT),
        _route("returns", returns, "The caller wants to send a parcel."),
    ]
    await create(
        "/templates",
        {
            **_agent("Front desk", FRONT_DESK, f"{HOURS} Route the caller."),
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
