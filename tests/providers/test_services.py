"""The options for a vendor follow from the template; the author's settings take precedence."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from openai import NOT_GIVEN
from pipecat.adapters.services.open_ai_adapter import OpenAILLMInvocationParams
from pipecat.services.openai.llm import OpenAILLMService

from templates.model import TemplateContent
from voicebot.config import Settings
from voicebot.providers.registry import Providers
from voicebot.providers.service_spec import ServiceFailed, ServiceSpec
from voicebot.providers.websocket import connection_options


def content(**members: Any) -> TemplateContent:
    return TemplateContent.model_validate({"name": "Front desk", **members})


def stt_key(**members: Any) -> str:
    """The key of an agent's STT service, which holds all its settings."""
    return Providers(Settings(_env_file=None)).stt(content(**members)).key


async def on_request(_context_id: str, _text: str) -> None:
    raise AssertionError("nothing is spoken")


def spec(kind: str, **members: Any) -> ServiceSpec:
    """The service of a template."""
    providers = Providers(Settings(_env_file=None))
    match kind:
        case "stt":
            return providers.stt(content(**members))
        case "tts":
            return providers.tts(content(**members), on_request)
        case _:
            return providers.llm(content(**members))[0]


async def test_the_transcriber_expects_the_language_of_the_template() -> None:
    """Without its own setting, STT gets the template's language."""
    assert '"language":"de-DE"' in stt_key(language="de-DE")


async def test_the_transcriber_may_expect_another_language_than_the_agent_speaks() -> None:
    """The author's settings of STT replace the language and the endpointing of the template."""
    settings = {"language": "multi", "endpointing": 50}
    key = stt_key(language="en-US", stt={"model": "nova-3", "settings": settings})
    assert '"language":"multi"' in key
    assert '"endpointing":50' in key


@pytest.mark.parametrize("kind", ["stt", "tts", "llm"])
async def test_equal_settings_have_one_key_and_different_ones_have_two(kind: str) -> None:
    """Templates share a service exactly if provider and settings are equal."""
    one = spec(kind, **{kind: {"model": "one"}})
    assert one.key == spec(kind, name="Billing", **{kind: {"model": "one"}}).key
    assert one.key != spec(kind, **{kind: {"model": "two"}}).key


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("stt", {"provider": "nobody"}),
        ("tts", {"provider": "nobody"}),
        ("llm", {"provider": "nobody"}),
        ("tts", {"voice_id": "../../v1/user"}),
        ("stt", {"model": "nova-3&callback=https://example.com"}),
    ],
)
async def test_a_service_that_this_server_cannot_make_fails_when_it_is_prepared(
    kind: str, part: dict[str, Any]
) -> None:
    """A provider that was removed since, or a voice id that was saved before it was checked, fails alone."""
    with pytest.raises(ServiceFailed):
        await spec(kind, **{kind: part}).make()


async def test_settings_that_were_saved_before_they_were_checked_do_not_reach_a_vendor() -> None:
    """An unknown or invalid setting of an old template is left out, and the valid ones are kept."""
    old = {"temperature": 0.2, "n": 100, "extra_headers": {"Authorization": "x"}, "top_p": 7}
    key = spec("llm", llm={"settings": old}).key
    assert key == spec("llm", llm={"settings": {"temperature": 0.2}}).key
    assert '"temperature":0.2' in key


async def test_null_means_the_vendors_default() -> None:
    """A setting of null is the same as a setting left out."""
    assert spec("tts", tts={"settings": {"speed": None}}).key == spec("tts").key


async def test_the_client_does_not_copy_messages_and_tools() -> None:
    """Messages and tools travel in ``extra_body``, which the client merges into the request as it is."""
    _, service = Providers(Settings(_env_file=None)).llm(content())
    assert isinstance(service, OpenAILLMService)
    messages: Any = [{"role": "user", "content": "Hello."}]
    tools: Any = [{"type": "function", "function": {"name": "end_call"}}]
    given = OpenAILLMInvocationParams(messages=messages, tools=tools, tool_choice="auto")
    params = service.build_chat_completion_params(given)
    assert (params["messages"], params["tools"]) == ([], [])
    assert params["extra_body"] == {"messages": messages, "tools": tools}
    assert params["tool_choice"] == "auto"
    without = service.build_chat_completion_params({**given, "tools": NOT_GIVEN})
    assert (without["tools"], without["extra_body"]) == (NOT_GIVEN, {"messages": messages})


def test_certificates_are_read_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """All connections to vendors share the trusted certificates; to read them stops calls for tens of ms."""
    Providers(Settings(_env_file=None))
    reads: list[object] = []
    for method in ("load_verify_locations", "load_default_certs", "set_default_verify_paths"):
        monkeypatch.setattr(ssl.SSLContext, method, lambda *args: reads.append(args))
    Providers(Settings(_env_file=None))
    assert isinstance(connection_options("wss://api.elevenlabs.io")["ssl"], ssl.SSLContext)
    assert reads == []
