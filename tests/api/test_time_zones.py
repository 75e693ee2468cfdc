"""Names of time zones in requests: voicebot.api.validation."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from voicebot.api.validation import TimeZone


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("berlin", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("America/New York", "America/New_York"),
        ("UTC ", "UTC"),
        ("Europe/Berln", "Europe/Berlin"),
        ("Kolkatta", "Asia/Kolkata"),
    ],
)
def test_another_spelling_of_a_time_zone_is_refused_with_its_name(name: str, zone: str) -> None:
    """The error names the zone whose name or city is nearly so, or has other spaces or capitals."""
    with pytest.raises(ValidationError, match=f"Did you mean '{zone}'"):
        TypeAdapter(TimeZone).validate_python(name)


@pytest.mark.parametrize("name", ["Mars/Olympus", "localtime", ""])
def test_a_name_without_a_time_zone_is_refused(name: str) -> None:
    """A name that is not in the IANA database, or means the zone of the machine, has no suggestion."""
    with pytest.raises(ValidationError, match=r"is not a time zone .* such as Europe/Berlin\. "):
        TypeAdapter(TimeZone).validate_python(name)
