"""A call whose orchestrator uses other providers than the agent it routes to."""

from __future__ import annotations

from tests.calls.harness import BILL, BYE, HIGH, WELCOME, CallHarness, hear
from voicebot.sandbox.caller import Say
from voicebot.sandbox.environment import ENDPOINT

AURA = "aura-2-thalia-en"


async def test_a_call_changes_all_providers_on_a_route(any_harness: CallHarness) -> None:
    """Scribe, Aura and an endpoint serve the orchestrator; Deepgram, ElevenLabs and OpenAI its target."""
    billing = await any_harness.agent("Billing", "Billing here.", HIGH)
    number = await any_harness.orchestrator(
        any_harness.route("billing", billing),
        tts={"provider": "deepgram", "voice_id": AURA},
        stt={"provider": "elevenlabs"},
        llm={"provider": ENDPOINT, "model": "other", "settings": {"temperature": 0.2}},
        turns={"end_silence_ms": 600},
    )
    call = await any_harness.place(
        hear(quiet_ms=900), Say(text=BILL), hear(quiet_ms=900), Say(text=BYE), hear(), to=number
    )
    assert call.words("agent")[:2] == [WELCOME, "Billing here."]
    assert call.words("caller") == [BILL, BYE]
    assert [route["status"] for route in call.routes] == ["done"]
    assert call.record["ended_by"] == "agent"
    usage = any_harness.sandbox.usage
    assert usage.tally("elevenlabs", "scribe_v2_realtime").opened
    assert usage.tally("deepgram", AURA).opened
    assert usage.tally("deepgram", "nova-3-general").opened
    assert usage.tally("elevenlabs", HIGH).opened
    assert [request.body for request in usage.requests("deepgram", AURA)][:1] == [WELCOME]
    assert all(request.body["temperature"] == 0.2 for request in usage.requests("openai", "other"))
    assert usage.requests("openai", "other")
    assert usage.requests("openai", "sandbox")
