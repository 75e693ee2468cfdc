"""Rules about the providers of a template: names, voices, models and settings."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from templates.bounds import MODEL_NAME, VOICE_ID
from templates.check.context import CheckContext, ProviderRules, ProviderTable
from templates.check.rules import problem_for
from templates.check.structure import locate
from templates.model import DEFAULT_VOICE_ID, Llm, Stt, TemplateContent, Tts
from templates.problem import Problem

_KINDS = ("tts", "stt", "llm")


def check_providers(content: TemplateContent, context: CheckContext) -> Iterator[Problem]:
    """Check providers, voices, models and the settings that reach a vendor."""
    for kind in _KINDS:
        service: Tts | Stt | Llm = getattr(content, kind)
        rules = (context.providers or {}).get(kind, {}).get(service.provider)
        if context.providers is not None and rules is None:
            yield _unknown(kind, service.provider, context.providers)
        if rules is not None and rules.missing:
            yield _unconfigured(kind, service.provider, rules)
        if isinstance(service, Tts):
            yield from _voice(service, rules)
        yield from _model(kind, service, rules)
        if rules is not None:
            yield from _settings(kind, service, rules)


def _unknown(kind: str, name: str, providers: ProviderTable) -> Problem:
    known = sorted(providers.get(kind, {}))
    message = f"'{name}' is not one of: {', '.join(known)}.{_suggestion(name, known)}"
    return problem_for("provider_unknown", (kind, "provider"), message)


def _unconfigured(kind: str, name: str, rules: ProviderRules) -> Problem:
    variables = ", ".join(rules.missing)
    message = f"This server cannot use '{name}': {variables} is not set."
    remedy = f"Have the operator set {variables}, or choose another provider."
    return problem_for("provider_unconfigured", (kind, "provider"), message, detail=remedy)


def _voice(tts: Tts, rules: ProviderRules | None) -> Iterator[Problem]:
    where = ("tts", "voice_id")
    if not tts.voice_id.strip():
        yield problem_for("voice_missing", where, "The voice id is empty.")
    elif not VOICE_ID.matches(tts.voice_id):
        remedy = "Use 1 to 64 letters, digits, `_` or `-`."
        yield problem_for("voice_invalid", where, f"'{tts.voice_id}' is not a voice id.", detail=remedy)
    elif rules is not None and rules.voices is not None and not rules.voices.matches(tts.voice_id):
        message = f"'{tts.voice_id}' is not a voice of '{tts.provider}'."
        remedy = f"Use a voice such as `{rules.voice_example}`."
        yield problem_for("voice_invalid", where, message, detail=remedy)
    elif tts.voice_id == DEFAULT_VOICE_ID:
        yield problem_for("voice_default", where, "The voice is the default one.")


def _model(kind: str, service: Tts | Stt | Llm, rules: ProviderRules | None) -> Iterator[Problem]:
    where = (kind, "model")
    if service.model is not None and not MODEL_NAME.matches(service.model):
        yield problem_for("model_invalid", where, f"'{service.model}' is not the name of a model.")
    elif service.model is not None and rules is not None and not rules.has_models:
        yield problem_for(
            "model_unused", where, f"'model' has no effect: '{service.provider}' has no models."
        )


def _settings(kind: str, service: Tts | Stt | Llm, rules: ProviderRules) -> Iterator[Problem]:
    try:
        rules.settings.model_validate(service.settings)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            yield _setting(kind, service, rules, details)


def _setting(kind: str, service: Tts | Stt | Llm, rules: ProviderRules, details: ErrorDetails) -> Problem:
    path = locate(service.settings, details)
    where = (kind, "settings", *path)
    name = path[-1] if isinstance(path[-1], str) else f"{path[0]}/{path[-1]}"
    if details["type"] != "extra_forbidden":
        return problem_for("setting_invalid", where, f"'{name}' {_expectation(details)}.")
    known = sorted(rules.settings.model_fields)
    message = f"'{service.provider}' has no setting '{name}'.{_suggestion(str(name), known)}"
    return problem_for(
        "setting_unknown", where, message, detail=f"Remove it, or use one of: {', '.join(known)}."
    )


def _expectation(details: ErrorDetails) -> str:
    """What is wrong with a setting, as the end of a sentence."""
    limits = details.get("ctx", {})
    match details["type"]:
        case "greater_than_equal":
            return f"should be at least {limits['ge']:g}, not {details['input']}"
        case "less_than_equal":
            return f"should be at most {limits['le']:g}, not {details['input']}"
        case "literal_error":
            return f"should be {limits['expected']}"
        case "string_pattern_mismatch":
            return f"should match the pattern {limits['pattern']}"
        case kind:
            return _EXPECTED.get(kind) or details["msg"][0].lower() + details["msg"][1:]


_EXPECTED = {
    "float_type": "should be a number",
    "int_type": "should be a whole number",
    "bool_type": "should be true or false",
    "string_type": "should be a text",
    "list_type": "should be a list",
    "finite_number": "should be a finite number",
}


def _suggestion(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
