"""The check of files, as people read it and as programs do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from templates.problem import Problem, Severity
from templates.sets import CheckedTemplate
from voicebot.authoring.files import SourceFile


def report(written: Sequence[SourceFile], checked: Sequence[CheckedTemplate]) -> Iterator[str]:
    """A line for each fault, with file and line, and one with their number at the end."""
    errors = warnings = 0
    for file, each in zip(written, checked, strict=True):
        for problem in sorted((*each.report.errors, *each.report.warnings), key=lambda one: _line(file, one)):
            yield str(file.fault(replace(problem, message=f"{problem.severity}: {problem.message}")))
        errors += len(each.report.errors)
        warnings += len(each.report.warnings)
    counts = [(len(checked), "template"), (errors, "error"), (warnings, "warning")]
    yield ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)


def as_json(written: Sequence[SourceFile], checked: Sequence[CheckedTemplate]) -> dict[str, Any]:
    """For each template where it stands, and what `POST /templates/check` answers."""
    return {
        "ok": all(each.report.ok for each in checked),
        "templates": [
            {"file": str(file.path), "pointer": file.place, "name": each.name, **each.report.to_json()}
            for file, each in zip(written, checked, strict=True)
        ],
    }


def _line(file: SourceFile, problem: Problem) -> tuple[int, bool]:
    return file.text.line(file.place + problem.pointer) or 0, problem.severity is Severity.WARNING
