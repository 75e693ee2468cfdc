"""What the check needs to know of the account, and which templates a change concerns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

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
"""The functions that a template may name without declaring them."""

PROVIDERS: Mapping[str, frozenset[str]] = {
    "tts": frozenset({"elevenlabs"}),
    "stt": frozenset({"deepgram"}),
    "llm": frozenset({"openai"}),
}
"""Who can be named as ``provider``, by part of the template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckContext:
    """The account as the check sees it. ``None`` means not known: rules that ask for it are left out.

    Attributes:
        template_id: id of the template that is checked; None for one not saved yet.
        templates: the account's templates by id (at least those it routes to and those that route to it).
            Never another account's: a foreign target must look just like a missing one.
        numbers: the account's numbers by id, with whether each is active.
        builtins: names of the built-in functions.
        providers: names allowed as ``provider`` of tts, stt and llm.
        http_allow: ``host:port`` that HTTP functions may reach although private.
    """

    template_id: str | None = None
    templates: Mapping[str, TemplateContent] | None = None
    numbers: Mapping[str, bool] | None = None
    builtins: frozenset[str] = BUILTIN_FUNCTIONS
    providers: Mapping[str, frozenset[str]] = field(default_factory=lambda: PROVIDERS)
    http_allow: frozenset[str] = frozenset()


def targets(content: TemplateContent) -> frozenset[str]:
    """Ids of the templates that a template routes to."""
    return frozenset(route.template_id for route in content.routes if route.template_id)


def referrers(template_id: str, templates: Mapping[str, TemplateContent]) -> frozenset[str]:
    """Ids of the templates that have a route to one."""
    return frozenset(other for other, content in templates.items() if template_id in targets(content))


def concerned(
    template_id: str,
    before: TemplateContent | None,
    after: TemplateContent | None,
    templates: Mapping[str, TemplateContent],
) -> frozenset[str]:
    """Ids of the other templates whose check may come out differently when one changes.

    Args:
        template_id: the template that changes.
        before: what it was; None when it is new.
        after: what it becomes; None when it is deleted.
        templates: the account's templates.
    """
    led_to = (targets(before) if before else frozenset()) | (targets(after) if after else frozenset())
    return ((referrers(template_id, templates) | led_to) & templates.keys()) - {template_id}


def ways_in(around: CheckContext) -> Iterator[tuple[TemplateContent, Route]]:
    """Every route of an active orchestrator that leads to the template that is checked."""
    for other, content in (around.templates or {}).items():
        if other != around.template_id and content.kind == "orchestrator" and content.status == "active":
            for route in content.routes:
                if route.template_id == around.template_id:
                    yield content, route
