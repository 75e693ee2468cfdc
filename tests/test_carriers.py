"""What the registry of carriers says of a server's settings."""

from __future__ import annotations

import pytest

from templates.check import CarrierRules
from voicebot.carriers import carriers_of, rules_of
from voicebot.config import Settings

SECRET = {"EXOTEL_WEBHOOK_SECRET": "a secret"}
REST = {"EXOTEL_ACCOUNT_SID": "acme1", "EXOTEL_API_KEY": "key", "EXOTEL_API_TOKEN": "token"}
FLOW = {"EXOTEL_FLOW_ID": "77"}


@pytest.mark.parametrize(
    ("variables", "missing"),
    [(SECRET, ()), (SECRET | REST, ("EXOTEL_FLOW_ID",)), (SECRET | REST | FLOW, ())],
)
def test_what_templates_may_expect_follows_from_the_settings(
    variables: dict[str, str], missing: tuple[str, ...]
) -> None:
    """Dialled calls of Exotel are transferred with a flow; without credentials there are none."""
    settings = Settings(_env_file=None, TWILIO_ACCOUNT_SID="AC1", TWILIO_AUTH_TOKEN="token", **variables)
    rules = rules_of(settings, carriers_of(settings))
    assert rules["twilio"] == CarrierRules()
    assert rules["exotel"] == CarrierRules(
        has_busy_tone=False, has_attended_transfers=False, missing_to_transfer=missing
    )
