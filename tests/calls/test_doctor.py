"""`voicebot doctor` against the simulated carriers: each finding has its remedy."""

from __future__ import annotations

from typing import Any

from tests.api.server_fixture import create, new_e164
from tests.calls.harness import CallHarness
from voicebot.config import Settings
from voicebot.doctor import Finding, examine
from voicebot.sandbox.vendors.faults import Fault


async def findings(settings: Settings, *, of: str = "") -> dict[tuple[str | None, str], Finding]:
    """The findings by carrier and check; of those about numbers, the one that names `of`."""
    found: dict[tuple[str | None, str], Finding] = {}
    async for each in examine(settings):
        assert bool(each.remedy) is not each.ok, each
        if each.check not in ("number", "webhook") or of in each.message:
            found[each.carrier, each.check] = each
    return found


def reached(harness: CallHarness, **more: Any) -> Settings:
    """The settings of the server, whose public URL leads to it."""
    return harness.server.app_state.settings.replace({"PUBLIC_URL": harness.server.url, **more})


async def test_what_is_configured_is_found_well(harness: CallHarness) -> None:
    """Both carriers: variables, URL, credentials, and a number whose webhook leads here."""
    twilio, exotel = new_e164(), new_e164()
    await create(harness.api, "/numbers", {"e164": twilio})
    await create(harness.api, "/numbers", {"e164": exotel, "carrier": "exotel"})
    harness.carrier.settings.numbers[twilio] = f"{harness.server.url}/webhooks/twilio/voice"
    found = await findings(reached(harness), of=twilio)
    assert found[None, "url"].ok
    for carrier in ("twilio", "exotel"):
        assert found[carrier, "settings"].ok
        assert found[carrier, "credentials"].ok
    assert found["twilio", "webhook"].ok
    assert (await findings(reached(harness), of=exotel))["exotel", "webhook"].ok
    flow = found["exotel", "dialled_calls"]
    assert flow.ok
    assert "EXOTEL_FLOW_ID is not set: the calls of leads cannot be transferred" in flow.message
    assert ("twilio", "dialled_calls") not in found


async def test_what_is_wrong_is_found_with_a_remedy(harness: CallHarness) -> None:
    """Numbers that the carrier lacks or sends elsewhere, and a secret that the server does not have."""
    elsewhere, unknown, exotel = new_e164(), new_e164(), new_e164()
    for number in (elsewhere, unknown):
        await create(harness.api, "/numbers", {"e164": number})
    await create(harness.api, "/numbers", {"e164": exotel, "carrier": "exotel"})
    harness.carrier.settings.numbers[elsewhere] = "https://elsewhere.example.com/voice"
    settings = reached(harness, EXOTEL_WEBHOOK_SECRET="another secret")
    there = (await findings(settings, of=elsewhere))["twilio", "webhook"]
    assert f"{harness.server.url}/webhooks/twilio/voice" in there.remedy
    assert not (await findings(settings, of=unknown))["twilio", "number"].ok
    flow = (await findings(settings, of=exotel))["exotel", "webhook"]
    assert "EXOTEL_WEBHOOK_SECRET" in flow.remedy
    assert "another secret" not in flow.message + flow.remedy


async def test_bad_credentials_and_missing_variables_are_found(harness: CallHarness) -> None:
    """The carrier refuses the credentials; an account without a token takes calls and places none."""
    harness.sandbox.faults.add(Fault(server="twilio", kind="unauthorized"))
    settings = reached(harness, EXOTEL_API_TOKEN="", EXOTEL_FLOW_ID="77")
    found = await findings(settings)
    assert not found["twilio", "credentials"].ok
    assert "TWILIO_AUTH_TOKEN" in found["twilio", "credentials"].remedy
    assert "EXOTEL_API_TOKEN; it places no calls" in found["exotel", "settings"].message
    assert not found["exotel", "credentials"].ok
    assert "EXOTEL_FLOW_ID is set" in found["exotel", "dialled_calls"].message


async def test_a_server_that_is_not_reached_is_found(harness: CallHarness) -> None:
    """Without PUBLIC_URL, or with one that does not answer, carriers cannot reach the server."""
    unreachable = reached(harness, PUBLIC_URL="http://127.0.0.1:9")
    assert "127.0.0.1:9" in (await findings(unreachable))[None, "url"].message
    settings = Settings(_env_file=None, DATABASE_URL=unreachable.database_url)
    found = await findings(settings)
    assert "PUBLIC_URL" in found[None, "url"].remedy
    assert not found[None, "settings"].ok
