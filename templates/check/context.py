"""The account data that the check uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from templates.bounds import TextPattern
from templates.model import Route, TemplateContent

BUILTIN_FUNCTIONS = frozenset(
    {
        "route_to_agent",
        "end_call",
        "transfer_to_number",
        "send_dtmf",
        "record_outcome",
        "current_time",
        "escalate_to_person",
        "park_call",
    }
)
"""Names of the built-in functions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRules:
    """What a template may write for one provider.

    Attributes:
        settings: the pydantic model of ``settings``.
        has_models: whether ``model`` has an effect.
        missing: names of environment variables that the server lacks to use the provider.
        voices: the form of its voice ids (tts only).
        voice_example: one of its voice ids (tts only).
    """

    settings: type[BaseModel]
    has_models: bool = True
    missing: tuple[str, ...] = ()
    voices: TextPattern | None = None
    voice_example: str = ""


ProviderTable = Mapping[str, Mapping[str, ProviderRules]]
"""The providers by kind (``tts``, ``stt``, ``llm``) and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierRules:
    """What the calls of a carrier's numbers can do.

    Attributes:
        has_busy_tone: whether a call can be rejected with a busy tone.
        has_attended_transfers: whether a destination can be called while the caller stays.
        missing_to_transfer: names of environment variables that the server lacks to transfer calls that it
            has dialled; empty: it can, or dials none.
    """

    has_busy_tone: bool = True
    has_attended_transfers: bool = True
    missing_to_transfer: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNumber:
    """A number of the account."""

    active: bool
    carrier: str
    """The name of its carrier."""
    rules: CarrierRules = field(default_factory=CarrierRules)
    e164: str = ""
    can_dial: bool = True
    """Whether it has channels that are not reserved for inbound calls."""
    calls_back: bool = False
    """Whether its policy for inbound calls has callers called back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckContext:
    """The account data of one check. ``None`` means unknown: rules that need the value are skipped.

    Attributes:
        template_id: id of the checked template; None if it has not been saved.
        templates: the account's templates by id: at least those that routes lead to from it, and those from
            which routes lead to it, directly or through others.
            Templates of other accounts are absent, so that their ids are reported as missing.
        numbers: the numbers that these templates name, by id.
        builtins: names of the built-in functions.
        providers: the providers that a template may name, with their settings.
        http_allow: private addresses that HTTP functions may reach, each as ``host:port``.
    """

    template_id: str | None = None
    templates: Mapping[str, TemplateContent] | None = None
    numbers: Mapping[str, KnownNumber] | None = None
    builtins: frozenset[str] = BUILTIN_FUNCTIONS
    providers: ProviderTable | None = None
    http_allow: frozenset[str] = frozenset()


def targets(content: TemplateContent) -> frozenset[str]:
    """Ids of the templates that a template routes to."""
    return frozenset(route.template_id for route in content.routes if route.template_id)


def routes_to_checked_template(context: CheckContext) -> Iterator[tuple[TemplateContent, Route]]:
    """Each route of another active template to the checked template, with that template."""
    for other, content in (context.templates or {}).items():
        if other != context.template_id and content.status == "active":
            for route in content.routes:
                if route.template_id == context.template_id:
                    yield content, route


def agents_reached(content: TemplateContent, templates: Mapping[str, TemplateContent]) -> frozenset[str]:
    """Ids of the agents that a call which begins with a template can reach, directly or through others."""
    reached = {each for each in targets(content) if each in templates}
    pending = list(reached)
    while pending:
        new = {each for each in targets(templates[pending.pop()]) if each in templates} - reached
        reached |= new
        pending.extend(new)
    return frozenset(reached)


def reaching(context: CheckContext) -> Iterator[TemplateContent]:
    """The active orchestrators that route to the checked template, directly or through agents."""
    templates = context.templates or {}
    orchestrators = (
        each for each in templates.values() if each.kind == "orchestrator" and each.status == "active"
    )
    known = {key: each for key, each in templates.items() if each.status == "active"}
    own = context.template_id
    for each in orchestrators:
        ways = agents_reached(each, known)
        if own in targets(each) or any(own in targets(known[way]) for way in ways):
            yield each
