"""Rules about the template as a whole: name, language, number, ranges and speech."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from templates.bounds import LANGUAGE, NAME_LENGTH, Bounds
from templates.check.context import CheckContext, KnownNumber
from templates.check.rules import problem_for
from templates.functions import HttpFunction
from templates.inbound import Busy, InboundPolicy
from templates.languages import primary_language, unknown_subtag
from templates.model import Idle, Limits, TemplateContent
from templates.problem import Problem

_LONG_PROMPT = 30_000


def check_basics(content: TemplateContent, _context: CheckContext) -> Iterator[Problem]:
    """Check name, description, conversation and language."""
    if not content.name.strip():
        yield problem_for("name_missing", ("name",), "The template has no name.")
    if len(content.name) > NAME_LENGTH:
        yield problem_for("name_too_long", ("name",), f"The name has {len(content.name)} characters.")
    if content.kind == "agent" and not content.description.strip():
        message = "The agent has no description for the orchestrator's model."
        yield problem_for("description_missing", ("description",), message)
    yield from _conversation(content)
    if not LANGUAGE.matches(content.language):
        yield problem_for(
            "language_invalid", ("language",), f"'{content.language}' is not a BCP 47 language tag."
        )
    elif unknown := unknown_subtag(content.language):
        message = f"'{content.language}' names the {unknown}, which does not exist."
        hint = " Write `GB` for the United Kingdom." if content.language.upper().endswith("-UK") else ""
        yield problem_for("language_unknown", ("language",), message, detail=hint)
    elif content.idle == Idle() and primary_language(content.language) != "en":
        message = f"The agent speaks {content.language}, but its idle prompts are the English default."
        yield problem_for("idle_language", ("idle",), message)


def _conversation(content: TemplateContent) -> Iterator[Problem]:
    if content.prompt is None and content.flow is None:
        yield problem_for(
            "conversation_missing", ("prompt",), "The template has neither a prompt nor a flow."
        )
    elif content.prompt is not None and content.flow is not None:
        yield problem_for("conversation_ambiguous", ("flow",), "The template has both a prompt and a flow.")
    if content.prompt is not None and not content.prompt.strip():
        yield problem_for("prompt_empty", ("prompt",), "The prompt is empty.")
    if content.prompt is not None and len(content.prompt) > _LONG_PROMPT:
        yield problem_for("prompt_long", ("prompt",), f"The prompt has {len(content.prompt)} characters.")


def check_number(content: TemplateContent, context: CheckContext) -> Iterator[Problem]:
    """Check the number whose calls the template answers."""
    if content.number_id is None:
        if content.kind == "orchestrator":
            message = "The orchestrator has no number, so no caller can reach it."
            yield problem_for("number_missing", ("number_id",), message)
        return
    if context.numbers is not None:
        if content.number_id not in context.numbers:
            yield problem_for("number_unknown", ("number_id",), "This account has no number with this id.")
        elif not context.numbers[content.number_id].active:
            yield problem_for("number_inactive", ("number_id",), "The number is not active.")


def check_inbound(content: TemplateContent, context: CheckContext) -> Iterator[Problem]:
    """Check that the policy for inbound calls has an effect, and that the number's carrier can do it."""
    if content.inbound is None:
        return
    if content.number_id is None:
        message = "The template has no number, so its policy for inbound calls never applies."
        yield problem_for("inbound_unused", ("inbound",), message)
        return
    number = (context.numbers or {}).get(content.number_id)
    yield from policy_problems(content.inbound, number, busy="template_busy")


def policy_problems(policy: InboundPolicy, number: KnownNumber | None, *, busy: Busy) -> Iterator[Problem]:
    """What the policy of a template, or of a number, asks for in vain. Pointers begin with `/inbound`.

    Args:
        policy: the policy.
        number: the number whose calls it refuses; None: unknown.
        busy: the reason where too many calls are live; the other one never applies.
    """
    for place, refusal in policy.all_refusals():
        where = ("inbound", *place)
        if place[-1] in get_args(Busy) and place[-1] != busy:
            message = f"'{place[-1]}' is never the reason here."
            yield problem_for("reason_never_applies", where, message, detail=busy)
        if number is None:
            continue
        if refusal.action == "busy" and not number.rules.has_busy_tone:
            message = f"The number's carrier, {number.carrier}, cannot reject a call with a busy tone."
            yield problem_for("busy_tone_impossible", (*where, "action"), message)
        if refusal.action == "callback" and not number.can_dial:
            message = "The number cannot call back: all its channels are reserved for inbound calls."
            yield problem_for("call_back_impossible", (*where, "action"), message)
        if refusal.number is not None and refusal.number == number.e164:
            message = "This is the number that was called: its calls would be led back to it without end."
            yield problem_for("forwards_to_itself", (*where, "number"), message)


def check_bounds(content: TemplateContent, _context: CheckContext) -> Iterator[Problem]:
    """Check numeric fields against their ``Bounds``, which the JSON Schema states too."""
    parts = [
        (("turns",), content.turns),
        (("idle",), content.idle),
        (("waiting",), content.waiting),
        (("limits",), content.limits),
        (("outbound",), content.outbound),
        (("outbound", "retry"), content.outbound.retry),
        *([(("outbound", "rate_limit"), limit)] if (limit := content.outbound.rate_limit) else []),
    ]
    http = [
        (("functions", index), function)
        for index, function in enumerate(content.functions)
        if isinstance(function, HttpFunction)
    ]
    nodes = content.flow.nodes if content.flow is not None else {}
    keys = [(("flow", "nodes", name, "dtmf"), node.dtmf) for name, node in nodes.items() if node.dtmf]
    for path, part in [*parts, *http, *keys]:
        for name, field in type(part).model_fields.items():
            for bounds in field.metadata:
                value = getattr(part, name)
                if isinstance(bounds, Bounds) and not bounds.minimum <= value <= bounds.maximum:
                    message = (
                        f"'{name}' is {value}; it must be between {bounds.minimum} and {bounds.maximum}."
                    )
                    yield problem_for("out_of_range", (*path, name), message)


def check_limits(content: TemplateContent, _context: CheckContext) -> Iterator[Problem]:
    """Check that limits are set where they have an effect."""
    usual = Limits()
    for name in ("max_hops", "max_duration_ms"):
        if content.kind == "agent" and getattr(content.limits, name) != getattr(usual, name):
            message = f"'{name}' has no effect here: the limits of a call are those of its orchestrator."
            yield problem_for("limit_unused", ("limits", name), message)


def check_speech(content: TemplateContent, _context: CheckContext) -> Iterator[Problem]:
    """Check greeting, idle prompts, fillers and interruption settings."""
    if content.greeting is not None:
        length = len(content.greeting.text.strip())
        where = ("greeting", "text")
        if not length:
            yield problem_for("greeting_empty", where, "The greeting is empty.")
        elif length > 1000:
            yield problem_for("greeting_too_long", where, f"The greeting has {length} characters.")
        elif length > 300:
            yield problem_for("greeting_long", where, f"The greeting has {length} characters.")
    yield from _waiting_texts(content)
    if not content.turns.barge_in and content.turns.min_words:
        message = "'min_words' has no effect while 'barge_in' is false."
        yield problem_for("min_words_unused", ("turns", "min_words"), message)


def _waiting_texts(content: TemplateContent) -> Iterator[Problem]:
    for index, prompt in enumerate(content.idle.prompts):
        if not prompt.strip():
            yield problem_for("idle_prompt_empty", ("idle", "prompts", index), "The idle prompt is empty.")
    if len(content.idle.prompts) > 5:
        yield problem_for(
            "idle_prompts_many", ("idle", "prompts"), f"There are {len(content.idle.prompts)} idle prompts."
        )
    if not content.idle.goodbye.strip():
        yield problem_for("idle_goodbye_empty", ("idle", "goodbye"), "The goodbye is empty.")
    for index, filler in enumerate(content.fillers or ()):
        if not filler.strip():
            yield problem_for("filler_empty", ("fillers", index), "The filler is empty.")
