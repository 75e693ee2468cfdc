"""The account data that the check uses."""

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
"""Names of the built-in functions."""

PROVIDERS: Mapping[str, frozenset[str]] = {
    "tts": frozenset({"elevenlabs"}),
    "stt": frozenset({"deepgram"}),
    "llm": frozenset({"openai"}),
}
"""Valid values of ``provider``, by part of the template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckContext:
    """The account data of one check. ``None`` means unknown: rules that need the value are skipped.

    Attributes:
        template_id: id of the checked template; None if it has not been saved.
        templates: the account's templates by id: at least its targets and the templates that route to it.
            Templates of other accounts are absent, so that their ids are reported as missing.
        numbers: number id → whether the number is active.
        builtins: names of the built-in functions.
        providers: names allowed as ``provider`` of tts, stt and llm.
        http_allow: private addresses that HTTP functions may reach, each as ``host:port``.
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


def routes_to_checked_template(context: CheckContext) -> Iterator[tuple[TemplateContent, Route]]:
    """Each route of an active orchestrator to the checked template, with that orchestrator."""
    for other, content in (context.templates or {}).items():
        if other != context.template_id and content.kind == "orchestrator" and content.status == "active":
            for route in content.routes:
                if route.template_id == context.template_id:
                    yield content, route
