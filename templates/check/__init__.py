"""The check of a template: everything that is wrong with it, at once, each fault with place and remedy.

``check`` looks at a template, ``check_document`` at any JSON at all; both know of the account only what
``Surroundings`` tells them. Errors refuse activation, warnings do not; the API decides what a draft may have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from templates.check.basics import check_basics, check_bounds, check_number, check_services, check_speech
from templates.check.context import BUILTIN_FUNCTIONS, PROVIDERS, CheckContext, concerned, referrers, targets
from templates.check.flow import check_flow
from templates.check.functions import check_destinations, check_functions
from templates.check.graph import check_hops, check_routes, check_targets, check_ways
from templates.check.http import check_http
from templates.check.rules import RULES, Rule
from templates.check.structure import Reading, read
from templates.check.texts import check_texts
from templates.check.variables import check_provision, check_variables
from templates.model import TemplateContent
from templates.problem import Problem, Severity

__all__ = [
    "BUILTIN_FUNCTIONS",
    "PROVIDERS",
    "RULES",
    "CheckContext",
    "Problem",
    "Reading",
    "Report",
    "Rule",
    "check",
    "check_document",
    "check_reading",
    "concerned",
    "read",
    "referrers",
    "targets",
]

_CHECKS: tuple[Callable[[TemplateContent, CheckContext], Iterator[Problem]], ...] = (
    check_basics,
    check_number,
    check_services,
    check_bounds,
    check_speech,
    check_variables,
    check_provision,
    check_texts,
    check_functions,
    check_destinations,
    check_http,
    check_flow,
    check_routes,
    check_targets,
    check_hops,
    check_ways,
)


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found: errors, which refuse activation, and warnings."""

    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the template could be active."""
        return not self.errors

    def to_json(self) -> dict[str, Any]:
        """The answer of ``POST /templates/check``."""
        return {
            "ok": self.ok,
            "errors": [problem.to_json() for problem in self.errors],
            "warnings": [problem.to_json() for problem in self.warnings],
        }


def check(content: TemplateContent, around: CheckContext | None = None) -> Report:
    """Everything that is wrong with a template, in the order of its rooms."""
    return _report(_problems(content, around or CheckContext()))


def check_document(
    document: Any, around: CheckContext | None = None
) -> tuple[TemplateContent | None, Report]:
    """Everything that is wrong with any JSON document, faults of shape first.

    Returns:
        the template, or None where the shape is at fault (such a document cannot even be saved as a draft),
        and the report, in which all other rules have looked at what could still be read.
    """
    reading = read(document)
    return (reading.content if not reading.problems else None), check_reading(reading, around)


def check_reading(reading: Reading, around: CheckContext | None = None) -> Report:
    """The same in two steps, for whoever must see what was read (``reading.content``) to know the account.

    ::

        reading = read(document)
        around = await surroundings_of(reading.content)
        report = check_reading(reading, around)
    """
    problems = list(reading.problems)
    if reading.content is not None:
        relocated = (
            reading.relocate(found) for found in _problems(reading.content, around or CheckContext())
        )
        problems += [problem for problem in relocated if not reading.spoilt(problem.pointer)]
    return _report(problems)


def _problems(content: TemplateContent, around: CheckContext) -> Iterator[Problem]:
    for each in _CHECKS:
        yield from each(content, around)


def _report(problems: Iterable[Problem]) -> Report:
    unique = list(dict.fromkeys(problems))
    return Report(
        errors=tuple(problem for problem in unique if problem.severity is Severity.ERROR),
        warnings=tuple(problem for problem in unique if problem.severity is Severity.WARNING),
    )
