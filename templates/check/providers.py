"""Rules about the providers of a template: names, voices, models and settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from templates.bounds import MODEL_NAME, VOICE_ID
from templates.check.context import CheckContext, ProviderRules, ProviderTable
from templates.check.rules import problem_for
from templates.check.structure import locate
from templates.defaults import AccountBackups
from templates.model import TemplateContent
from templates.problem import Problem
from templates.services import DEFAULT_VOICE_ID, Llm, LlmService, Stt, SttService, Tts, TtsService

_KINDS = ("tts", "stt", "llm")

Service = TtsService | SttService | LlmService
Path = tuple[str | int, ...]


def check_providers(content: TemplateContent, context: CheckContext) -> Iterator[Problem]:
    """Check providers, voices, models and the settings that reach a vendor, of backups too."""
    for kind in _KINDS:
        primary: Tts | Stt | Llm = getattr(content, kind)
        known = None if context.providers is None else context.providers.get(kind, {})
        services: list[Service] = [primary, *primary.backup]
        yield from _service((kind,), primary, known)
        for index, backup in enumerate(services[1:]):
            where = (kind, "backup", index)
            yield from _service(where, backup, known)
            yield from _repeated(where, backup, services[: index + 1])


def check_backups(backups: AccountBackups, providers: ProviderTable | None) -> Iterator[Problem]:
    """Check the backups that an account names for its templates, at `/backup`."""
    for kind in _KINDS:
        services: Sequence[Service] = getattr(backups, kind)
        for index, service in enumerate(services):
            where = ("backup", kind, index)
            yield from _service(where, service, None if providers is None else providers.get(kind, {}))
            yield from _repeated(where, service, services[:index])


def _service(where: Path, service: Service, known: Mapping[str, ProviderRules] | None) -> Iterator[Problem]:
    rules = (known or {}).get(service.provider)
    if known is not None and rules is None:
        yield _unknown(where, service.provider, known)
    if rules is not None and rules.missing:
        yield _unconfigured(where, service.provider, rules)
    if isinstance(service, TtsService):
        yield from _voice(where, service, rules)
    yield from _model(where, service, rules)
    if rules is not None:
        yield from _settings(where, service, rules)


def _repeated(where: Path, backup: Service, earlier: Sequence[Service]) -> Iterator[Problem]:
    """A backup that fails together with what it is to replace."""
    path = (*where, "provider")
    if any(_description(backup) == _description(each) for each in earlier):
        yield problem_for("backup_duplicate", path, "The same service is named before.")
    elif any(backup.provider == each.provider for each in earlier):
        message = f"'{backup.provider}' is named before: both fail together when the provider does."
        yield problem_for("backup_same_provider", path, message)


def _description(service: Service) -> dict[str, Any]:
    return service.model_dump(exclude={"backup"})


def _unknown(where: Path, name: str, rules: Mapping[str, ProviderRules]) -> Problem:
    known = sorted(rules)
    message = f"'{name}' is not one of: {', '.join(known)}.{_suggestion(name, known)}"
    return problem_for("provider_unknown", (*where, "provider"), message)


def _unconfigured(where: Path, name: str, rules: ProviderRules) -> Problem:
    variables = ", ".join(rules.missing)
    message = f"This server cannot use '{name}': {variables} is not set."
    remedy = f"Have the operator set {variables}, or choose another provider."
    return problem_for("provider_unconfigured", (*where, "provider"), message, detail=remedy)


def _voice(place: Path, tts: TtsService, rules: ProviderRules | None) -> Iterator[Problem]:
    where = (*place, "voice_id")
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


def _model(place: Path, service: Service, rules: ProviderRules | None) -> Iterator[Problem]:
    where = (*place, "model")
    if service.model is not None and not MODEL_NAME.matches(service.model):
        yield problem_for("model_invalid", where, f"'{service.model}' is not the name of a model.")
    elif service.model is not None and rules is not None and not rules.has_models:
        yield problem_for(
            "model_unused", where, f"'model' has no effect: '{service.provider}' has no models."
        )


def _settings(place: Path, service: Service, rules: ProviderRules) -> Iterator[Problem]:
    try:
        rules.settings.model_validate(service.settings)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            yield _setting(place, service, rules, details)


def _setting(place: Path, service: Service, rules: ProviderRules, details: ErrorDetails) -> Problem:
    path = locate(service.settings, details)
    where = (*place, "settings", *path)
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
