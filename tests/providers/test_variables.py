"""The variables of providers: which providers are configured, and the error of a malformed variable."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from templates.check import ProviderTable
from voicebot import startup
from voicebot.config import Settings
from voicebot.providers.registry import VARIABLES, Providers

GROQ = {"base_url": "https://api.groq.com/openai/v1", "model": "llama", "api_key_env": "GROQ_API_KEY"}


def table(**variables: Any) -> ProviderTable:
    """The providers of a server with these variables."""
    return Providers(Settings(_env_file=None, **variables)).rules()


def test_a_provider_says_which_variables_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key, and without a URL of one's own, a provider names the variable to set."""
    for name in ("DEEPGRAM_API_KEY", "ELEVENLABS_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    unset, keyed = (
        table(),
        table(DEEPGRAM_API_KEY="x", ELEVENLABS_URL="http://localhost:1", OPENAI_API_KEY="x"),
    )
    assert unset["stt"]["deepgram"].missing == unset["tts"]["deepgram"].missing == ("DEEPGRAM_API_KEY",)
    assert unset["stt"]["elevenlabs"].missing == unset["tts"]["elevenlabs"].missing == ("ELEVENLABS_API_KEY",)
    assert unset["llm"]["openai"].missing == ("OPENAI_API_KEY",)
    assert not any(rules.missing for kind in keyed.values() for rules in kind.values())


def test_endpoints_are_named_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each endpoint of VOICEBOT_LLM_ENDPOINTS is an llm provider, whose key is in a variable of its own."""
    named = {"groq": GROQ, "local": {**GROQ, "api_key_env": None}}
    monkeypatch.setenv("VOICEBOT_LLM_ENDPOINTS", json.dumps(named))
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    unset = table()["llm"]
    monkeypatch.setenv("GROQ_API_KEY", "a key")
    assert set(unset) == {"openai", "groq", "local"}
    assert (unset["groq"].missing, unset["local"].missing) == (("GROQ_API_KEY",), ())
    assert table()["llm"]["groq"].missing == ()


@pytest.mark.parametrize(
    ("endpoints", "message"),
    [
        ('{"groq":', "not JSON"),
        ('["groq"]', "valid dictionary"),
        ({"groq": {"model": "llama"}}, "base_url: Field required"),
        ({"groq": {**GROQ, "base_url": "api.groq.com"}}, "base_url: String should match pattern"),
        ({"groq": {**GROQ, "api_key": "gsk_secret"}}, "name the variable that holds the key"),
        ({"groq": {**GROQ, "headers": {}}}, "headers: Extra inputs are not permitted"),
        ({"Groq Cloud": GROQ}, "String should match pattern"),
        ({"openai": GROQ}, "'openai' is taken"),
    ],
)
def test_malformed_endpoints_end_the_process_with_a_message(
    endpoints: Any, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the variable and the fault, and shows no value."""
    text = endpoints if isinstance(endpoints, str) else json.dumps(endpoints)
    monkeypatch.setenv("VOICEBOT_LLM_ENDPOINTS", text)
    with pytest.raises(SystemExit) as ended:
        startup.settings(*VARIABLES)
    printed = capsys.readouterr().err
    assert ended.value.code == startup.WRONG_SETTINGS
    assert printed.startswith("VOICEBOT_LLM_ENDPOINTS")
    assert message in printed
    assert "gsk_secret" not in printed


@pytest.mark.parametrize("name", ["DEEPGRAM_URL", "ELEVENLABS_URL", "OPENAI_BASE_URL"])
def test_a_url_of_a_provider_is_an_http_url(name: str) -> None:
    """Another URL is refused when the providers are made."""
    with pytest.raises(ValidationError):
        table(**{name: "wss://example.com"})


def test_keys_are_not_shown() -> None:
    """Neither settings nor variables show a key that they hold."""
    settings = Settings(_env_file=None, DEEPGRAM_API_KEY="dg-confidential", OPENAI_API_KEY="sk-confidential")
    shown = [repr(settings), *(repr(settings.read(each)) for each in VARIABLES)]
    assert not any("confidential" in text for text in shown)
