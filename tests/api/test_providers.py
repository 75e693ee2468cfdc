"""GET /providers and the metric of the providers' states."""

from __future__ import annotations

from tests.api.server_fixture import RunningServer, Tenant, metric


async def test_every_provider_has_a_state(tenant: Tenant) -> None:
    """Each provider of each kind is listed once, with the variable of its key and without the key."""
    answer = await tenant.owner.get("/providers")
    assert answer.status_code == 200
    items = answer.json()["items"]
    found = {(item["kind"], item["provider"]) for item in items}
    assert {("stt", "deepgram"), ("tts", "elevenlabs"), ("llm", "openai")} <= found
    assert len(found) == len(items)
    [deepgram] = [item for item in items if (item["kind"], item["provider"]) == ("stt", "deepgram")]
    assert deepgram["credential"] == "DEEPGRAM_API_KEY"
    assert {"configured", "state", "until", "probing", "failures", "reason", "failed_at"} < deepgram.keys()
    assert "fingerprint" not in answer.text


async def test_a_failure_is_seen_in_the_list_and_in_the_metrics(
    server: RunningServer, tenant: Tenant
) -> None:
    """What a call reports is answered at once by the process that ran it."""
    health = server.app_state.provider_health
    labels = 'kind="tts",provider="deepgram",state="outage"'
    assert await metric(server.url, f"voicebot_provider_state{{{labels}}}") == 0
    for _ in range(2):
        health.failed("tts", "deepgram", ConnectionRefusedError(), "")
    items = (await tenant.owner.get("/providers")).json()["items"]
    [state] = [item for item in items if (item["kind"], item["provider"]) == ("tts", "deepgram")]
    assert (state["state"], state["failures"], state["reason"]) == ("outage", 2, "ConnectionRefusedError")
    assert state["until"] > state["failed_at"]
    assert await metric(server.url, f"voicebot_provider_state{{{labels}}}") == 1
    health.worked("tts", "deepgram")
    items = (await tenant.owner.get("/providers")).json()["items"]
    assert {item["state"] for item in items if item["provider"] == "deepgram"} == {"ok"}


async def test_a_key_is_needed(tenant: Tenant) -> None:
    """Without a key the states are not answered."""
    answer = await tenant.owner.get("/providers", headers={"Authorization": ""})
    assert answer.status_code == 401
