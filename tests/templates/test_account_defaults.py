"""What an account sets for its calls where a template says nothing."""

from __future__ import annotations

from typing import Any

import pytest

from templates.defaults import CallDefaults
from templates.model import TemplateContent

VOICE: dict[str, Any] = {"provider": "deepgram", "voice_id": "aura-2-thalia-en"}
DEFAULTS = CallDefaults.model_validate(
    {
        "backup": {"tts": [VOICE], "stt": [{"provider": "elevenlabs"}], "llm": [{"model": "gpt-4.1-mini"}]},
        "takeover": {"transcribe": True},
    }
)


def content(**document: Any) -> TemplateContent:
    """A template with the account's defaults."""
    return TemplateContent.model_validate(DEFAULTS.applied_to({"name": "Desk", **document}))


def test_a_template_that_says_nothing_has_what_the_account_sets() -> None:
    """Backups of each kind, and the transcription of takeovers."""
    found = content()
    assert [each.provider for each in found.tts.backup] == ["deepgram"]
    assert [each.provider for each in found.stt.backup] == ["elevenlabs"]
    assert [each.model for each in found.llm.backup] == ["gpt-4.1-mini"]
    assert found.takeover.transcribe is True


def test_what_a_template_says_prevails() -> None:
    """Its own backups of one kind replace the account's of that kind, and no others."""
    found = content(
        stt={"backup": [{"provider": "deepgram", "model": "nova-2"}]}, takeover={"transcribe": False}
    )
    assert [each.model for each in found.stt.backup] == ["nova-2"]
    assert [each.provider for each in found.tts.backup] == ["deepgram"]
    assert found.takeover.transcribe is False


@pytest.mark.parametrize(("voice_id", "backups"), [("aura-2-thalia-en", 0), ("aura-2-apollo-en", 1)])
def test_a_service_is_no_backup_of_itself(voice_id: str, backups: int) -> None:
    """Another voice of the same provider is one."""
    assert len(content(tts={**VOICE, "voice_id": voice_id}).tts.backup) == backups


def test_an_account_that_sets_nothing_changes_nothing() -> None:
    """The template is as its author wrote it; takeovers are not transcribed."""
    document = {"name": "Desk", "tts": {"voice_id": "x"}}
    found = TemplateContent.model_validate(CallDefaults().applied_to(document))
    assert found == TemplateContent.model_validate({**document, "takeover": {"transcribe": False}})
