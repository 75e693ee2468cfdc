"""The settings of an account."""

from __future__ import annotations

import pytest

from tests.api.server_fixture import Tenant

PRICES = {
    "currency": "EUR",
    "stt": {"deepgram": {"per_minute": 0.0077}},
    "tts": {"elevenlabs": {"per_1000_characters": 0.3}},
    "llm": {"openai/gpt-4.1-mini": {"prompt": 0.4, "cached": 0.1, "completion": 1.6}},
}


async def test_prices_are_set_by_a_merge_patch(tenant: Tenant) -> None:
    """A patch adds to what is there and removes what is null; its base is the ETag that was read."""
    before = await tenant.owner.get("/account")
    assert (before.json()["id"], before.json()["prices"]) == (
        str(tenant.account_id), {"currency": "USD", "stt": {}, "tts": {}, "llm": {}},
    )  # fmt: skip
    base = {"If-Match": before.headers["ETag"]}
    changed = await tenant.owner.patch("/account", json={"prices": PRICES}, headers=base)
    assert changed.json()["prices"] == PRICES
    assert (await tenant.owner.patch("/account", json={"prices": {}}, headers=base)).status_code == 412
    less = {"prices": {"tts": {"elevenlabs": None}}}
    base = {"If-Match": changed.headers["ETag"]}
    assert (await tenant.owner.patch("/account", json=less, headers=base)).json()["prices"]["tts"] == {}
    again = await tenant.clients["viewer"].get("/account", headers={"If-None-Match": '"3"'})
    assert again.status_code == 304


async def test_retention_is_set_beside_the_prices(tenant: Tenant) -> None:
    """Both are kept when the other one changes; null keeps everything for ever."""
    headers = {"If-Match": "*"}
    await tenant.owner.patch("/account", json={"prices": PRICES}, headers=headers)
    kept = {"retention": {"transcripts_days": 30}}
    changed = (await tenant.owner.patch("/account", json=kept, headers=headers)).json()
    assert changed["retention"] == {"transcripts_days": 30, "payloads_days": None}
    assert changed["prices"] == PRICES
    forever = {"retention": {"transcripts_days": None}}
    changed = (await tenant.owner.patch("/account", json=forever, headers=headers)).json()
    assert changed["retention"]["transcripts_days"] is None


@pytest.mark.parametrize(
    ("patch", "where"),
    [
        ({"prices": {"currency": "euro"}}, "/prices/currency"),
        ({"prices": {"stt": {"deepgram": {"per_minute": -1}}}}, "/prices/stt/deepgram/per_minute"),
        ({"prices": {"stt": {"deepgram": {}}}}, "/prices/stt/deepgram/per_minute"),
        ({"retention": {"payloads_days": 0}}, "/retention/payloads_days"),
        ({"colour": "red"}, "/colour"),
    ],
)
async def test_a_wrong_setting_is_refused_with_its_place(
    tenant: Tenant, patch: dict[str, object], where: str
) -> None:
    """Nothing is changed then."""
    refused = await tenant.owner.patch("/account", json=patch, headers={"If-Match": '"1"'})
    assert refused.status_code == 422
    assert [fault["pointer"] for fault in refused.json()["errors"]] == [where]
    assert (await tenant.owner.get("/account")).json()["revision"] == 1


async def test_the_key_of_webhooks_is_shown_once(tenant: Tenant) -> None:
    """Each request makes another key; no answer shows one that was made before."""
    keys = [(await tenant.owner.post("/account/webhook-secret")).json()["signing_secret"] for _ in range(2)]
    assert all(key.startswith("whsec_") for key in keys)
    assert len(set(keys)) == 2
    assert "whsec" not in (await tenant.owner.get("/account")).text


async def test_backups_and_takeovers_of_all_templates_are_set(tenant: Tenant) -> None:
    """They are answered as they were sent, with the defaults of what was left out."""
    voice = {"provider": "deepgram", "voice_id": "aura-2-thalia-en"}
    patch = {"backup": {"tts": [voice]}, "takeover": {"transcribe": True}}
    changed = await tenant.owner.patch("/account", json=patch, headers={"If-Match": '"1"'})
    assert changed.json()["backup"] == {
        "tts": [{**voice, "model": None, "settings": {}}],
        "stt": [],
        "llm": [],
    }
    assert changed.json()["takeover"] == {"transcribe": True}


@pytest.mark.parametrize(
    ("backup", "where"),
    [
        ({"tts": [{"provider": "nobody"}]}, "/backup/tts/0/provider"),
        ({"tts": [{"provider": "deepgram", "voice_id": "not a voice"}]}, "/backup/tts/0/voice_id"),
        ({"stt": [{"settings": {"colour": "red"}}]}, "/backup/stt/0/settings/colour"),
        ({"llm": [{"model": "a"}, {"model": "a"}]}, "/backup/llm/1/provider"),
        ({"llm": [{"model": str(number)} for number in range(6)]}, "/backup/llm"),
    ],
)
async def test_a_backup_that_no_template_could_name_is_refused(
    tenant: Tenant, backup: dict[str, object], where: str
) -> None:
    """The rules are those of templates, and the fault has its place."""
    refused = await tenant.owner.patch("/account", json={"backup": backup}, headers={"If-Match": '"1"'})
    assert refused.status_code == 422
    assert where in [fault["pointer"] for fault in refused.json()["errors"]]
