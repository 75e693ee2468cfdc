"""Rules about the template as a whole: what it is called and speaks, its number, its voice, its bounds."""

from __future__ import annotations

from collections.abc import Iterator

from templates.bounds import LANGUAGE, NAME_LENGTH, Bounds
from templates.check.context import CheckContext
from templates.check.rules import broken
from templates.functions import HttpFunction
from templates.languages import primary_language
from templates.model import DEFAULT_VOICE_ID, Idle, TemplateContent
from templates.problem import Problem

_LONG_PROMPT = 30_000


def check_basics(content: TemplateContent, around: CheckContext) -> Iterator[Problem]:
    """Name, description, conversation, language."""
    if not content.name.strip():
        yield broken("name_missing", ("name",), "The template has no name.")
    if len(content.name) > NAME_LENGTH:
        yield broken("name_too_long", ("name",), f"The name has {len(content.name)} characters.")
    if content.kind == "agent" and not content.description.strip():
        message = "The agent has no description for the orchestrator's model to choose it by."
        yield broken("description_missing", ("description",), message)
    yield from _conversation(content)
    if not LANGUAGE.fits(content.language):
        yield broken("language_invalid", ("language",), f"'{content.language}' is not a language tag.")
    elif content.idle == Idle() and primary_language(content.language) != "en":
        message = (
            f"The agent speaks {content.language}, but its words to a silent caller are the English default."
        )
        yield broken("idle_language", ("idle",), message)


def _conversation(content: TemplateContent) -> Iterator[Problem]:
    if content.prompt is None and content.flow is None:
        yield broken("conversation_missing", ("prompt",), "The template has neither a prompt nor a flow.")
    elif content.prompt is not None and content.flow is not None:
        yield broken("conversation_ambiguous", ("flow",), "The template has both a prompt and a flow.")
    if content.prompt is not None and not content.prompt.strip():
        yield broken("prompt_empty", ("prompt",), "The prompt is empty.")
    if content.prompt is not None and len(content.prompt) > _LONG_PROMPT:
        yield broken("prompt_long", ("prompt",), f"The prompt has {len(content.prompt)} characters.")


def check_number(content: TemplateContent, around: CheckContext) -> Iterator[Problem]:
    """The number whose calls it answers."""
    if content.number_id is None:
        if content.kind == "orchestrator":
            message = "The orchestrator has no number, so no caller reaches it."
            yield broken("number_missing", ("number_id",), message)
        return
    if content.kind == "agent":
        message = "An agent is reached by a route; a number's calls go to its orchestrator."
        yield broken("number_on_agent", ("number_id",), message)
    if around.numbers is not None:
        if content.number_id not in around.numbers:
            yield broken("number_unknown", ("number_id",), "There is no such number in this account.")
        elif not around.numbers[content.number_id]:
            yield broken("number_inactive", ("number_id",), "The number is not active.")


def check_services(content: TemplateContent, around: CheckContext) -> Iterator[Problem]:
    """Providers and voice."""
    for part, service in (("tts", content.tts), ("stt", content.stt), ("llm", content.llm)):
        known = around.providers[part]
        if service.provider not in known:
            message = f"'{service.provider}' is not one of: {', '.join(sorted(known))}."
            yield broken("provider_unknown", (part, "provider"), message)
    if not content.tts.voice_id.strip():
        yield broken("voice_missing", ("tts", "voice_id"), "No voice is named.")
    elif content.tts.voice_id == DEFAULT_VOICE_ID:
        yield broken("voice_default", ("tts", "voice_id"), "No voice is chosen; the default one is used.")


def check_bounds(content: TemplateContent, around: CheckContext) -> Iterator[Problem]:
    """Figures within the bounds that the JSON Schema states too."""
    parts = [(("turns",), content.turns), (("idle",), content.idle), (("limits",), content.limits)]
    http = [
        (("functions", index), function)
        for index, function in enumerate(content.functions)
        if isinstance(function, HttpFunction)
    ]
    for path, part in [*parts, *http]:
        for name, field in type(part).model_fields.items():
            for bounds in field.metadata:
                value = getattr(part, name)
                if isinstance(bounds, Bounds) and not bounds.least <= value <= bounds.most:
                    message = f"{value} is not between {bounds.least} and {bounds.most}."
                    yield broken("out_of_range", (*path, name), message)


def check_speech(content: TemplateContent, around: CheckContext) -> Iterator[Problem]:
    """Greeting, idle prompts, interruptions."""
    if content.greeting is not None:
        length = len(content.greeting.text.strip())
        where = ("greeting", "text")
        if not length:
            yield broken("greeting_empty", where, "The greeting is empty.")
        elif length > 1000:
            yield broken("greeting_too_long", where, f"The greeting has {length} characters.")
        elif length > 300:
            yield broken("greeting_long", where, f"The greeting has {length} characters.")
    for index, prompt in enumerate(content.idle.prompts):
        if not prompt.strip():
            yield broken("idle_prompt_empty", ("idle", "prompts", index), "The prompt is empty.")
    if len(content.idle.prompts) > 5:
        yield broken(
            "idle_prompts_many", ("idle", "prompts"), f"There are {len(content.idle.prompts)} prompts."
        )
    if not content.idle.goodbye.strip():
        yield broken("idle_goodbye_empty", ("idle", "goodbye"), "There is no goodbye.")
    if not content.turns.barge_in and content.turns.min_words:
        message = "'min_words' has no effect while 'barge_in' is false."
        yield broken("min_words_unused", ("turns", "min_words"), message)
