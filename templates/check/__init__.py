"""The template check: reports all problems of a template at once, each with pointer, message and remedy.

``check`` takes a template, ``check_document`` any JSON document. Account data comes from ``CheckContext``.
Errors prevent activation, warnings do not; the API decides which errors a draft may have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from templates.check.basics import (
    check_basics,
    check_bounds,
    check_inbound,
    check_limits,
    check_number,
    check_speech,
)
from templates.check.context import (
    BUILTIN_FUNCTIONS,
    CarrierRules,
    CheckContext,
    KnownNumber,
    ProviderRules,
    ProviderTable,
    targets,
)
from templates.check.dtmf import check_masked
from templates.check.flow import check_flow
from templates.check.functions import (
    check_destinations,
    check_functions,
    check_named_functions,
    check_transfers,
)
from templates.check.graph import check_entry_and_exit, check_hops, check_routes, check_targets
from templates.check.http import check_http
from templates.check.outbound import check_outbound
from templates.check.providers import check_providers
from templates.check.rules import RULES, Rule
from templates.check.spoken import check_spoken
from templates.check.structure import MAX_PROBLEMS, Reading, read
from templates.check.texts import check_texts, note_caller_values
from templates.check.variables import check_arrival, check_provision, check_variables
from templates.model import TemplateContent
from templates.problem import Problem, Severity

__all__ = [
    "BUILTIN_FUNCTIONS",
    "MAX_PROBLEMS",
    "RULES",
    "CarrierRules",
    "CheckContext",
    "KnownNumber",
    "Problem",
    "ProviderRules",
    "ProviderTable",
    "Reading",
    "Report",
    "Rule",
    "check",
    "check_document",
    "check_reading",
    "read",
    "targets",
]

_CHECKS: tuple[Callable[[TemplateContent, CheckContext], Iterator[Problem]], ...] = (
    check_basics,
    check_number,
    check_inbound,
    check_providers,
    check_bounds,
    check_limits,
    check_speech,
    check_outbound,
    check_spoken,
    check_variables,
    check_provision,
    check_arrival,
    check_texts,
    note_caller_values,
    check_functions,
    check_named_functions,
    check_destinations,
    check_transfers,
    check_http,
    check_flow,
    check_masked,
    check_routes,
    check_targets,
    check_hops,
    check_entry_and_exit,
)


@dataclass(frozen=True, slots=True)
class Report:
    """Result of a check: errors, which prevent activation, warnings, and notes, which are not mistakes."""

    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> Report:
        """Sort problems by severity, at most ``MAX_PROBLEMS`` of each.

        Nothing more is looked for when that many errors have been found.
        """
        found: dict[Severity, dict[Problem, None]] = {severity: {} for severity in Severity}
        for problem in problems:
            if len(found[problem.severity]) < MAX_PROBLEMS:
                found[problem.severity][problem] = None
            elif problem.severity is Severity.ERROR:
                break
        return cls(
            errors=tuple(found[Severity.ERROR]),
            warnings=tuple(found[Severity.WARNING]),
            notes=tuple(found[Severity.NOTE]),
        )

    def problems(self) -> Iterator[Problem]:
        """Everything in the report."""
        return chain(self.errors, self.warnings, self.notes)

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    def to_json(self) -> dict[str, Any]:
        """The answer of ``POST /templates/check``."""
        return {
            "ok": self.ok,
            "errors": [problem.to_json() for problem in self.errors],
            "warnings": [problem.to_json() for problem in self.warnings],
            "notes": [problem.to_json() for problem in self.notes],
        }


def check(content: TemplateContent, context: CheckContext | None = None) -> Report:
    """Check a template with all rules, in the order of ``_CHECKS``."""
    return Report.of(_problems(content, context or CheckContext()))


def check_document(
    document: Any, context: CheckContext | None = None
) -> tuple[TemplateContent | None, Report]:
    """Check any JSON document; structural problems come first.

    Returns:
        The template, or None if there are structural problems (the document cannot be saved, even as a
        draft); and the report, in which the other rules have checked what could be read.
    """
    reading = read(document)
    return (reading.content if not reading.problems else None), check_reading(reading, context)


def check_reading(reading: Reading, context: CheckContext | None = None) -> Report:
    """Check a document that was read before; for callers that load the account data by its content.

    ::

        reading = read(document)
        context = await load_context(reading.content)
        report = check_reading(reading, context)
    """
    content = reading.content
    if content is None:
        return Report.of(reading.problems)
    relocated = map(reading.with_original_pointer, _problems(content, context or CheckContext()))
    others = (problem for problem in relocated if not reading.has_problem_at(problem.pointer))
    return Report.of(chain(reading.problems, others))


def _problems(content: TemplateContent, context: CheckContext) -> Iterator[Problem]:
    for each in _CHECKS:
        yield from each(content, context)
