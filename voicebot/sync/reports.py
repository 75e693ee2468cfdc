"""Reports of `voicebot check` and `voicebot diff`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from templates.problem import Problem, Severity
from templates.sets import CheckedTemplate, dump_text
from voicebot.authoring.files import SourceFile
from voicebot.sync.account import Account
from voicebot.sync.template_directory import TemplateDirectory


def check_report(sources: Sequence[SourceFile], checked: Sequence[CheckedTemplate]) -> Iterator[str]:
    """A line for each problem, with file and line, and a last line with their numbers."""
    errors = warnings = 0
    for source, each in zip(sources, checked, strict=True):
        for problem in sorted(each.report.problems(), key=lambda one: _sort_key(source, one)):
            yield str(source.fault(replace(problem, message=f"{problem.severity}: {problem.message}")))
        errors += len(each.report.errors)
        warnings += len(each.report.warnings)
    counts = [(len(checked), "template"), (errors, "error"), (warnings, "warning")]
    yield ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)


def check_as_json(sources: Sequence[SourceFile], checked: Sequence[CheckedTemplate]) -> dict[str, Any]:
    """For each template its file and pointer, and what `POST /templates/check` answers."""
    return {
        "ok": all(each.report.ok for each in checked),
        "templates": [
            {"file": str(source.path), "pointer": source.place, "name": each.name, **each.report.to_json()}
            for source, each in zip(sources, checked, strict=True)
        ],
    }


async def diff_report(local: TemplateDirectory, remote: Account) -> list[str]:
    """A unified diff of canonical YAML: `-` is on the server, `+` is in the directory.

    Raises:
        Refused: the account cannot be read.
    """
    theirs = {each.name: each.document for each in await remote.templates()}
    lines: list[str] = []
    for name in sorted(theirs.keys() | local.documents.keys()):
        before, after = theirs.get(name), local.documents.get(name)
        if before == after:
            continue  # The order of members may differ, which is not a difference.
        path = local.file_of(name)
        lines += difflib.unified_diff(
            _yaml_lines(before),
            _yaml_lines(after),
            f"server: {name}" if before is not None else "/dev/null",
            str(path) if path else "/dev/null",
            lineterm="",
        )
    return lines


def _sort_key(source: SourceFile, problem: Problem) -> tuple[int, bool]:
    return source.text.line(source.place + problem.pointer) or 0, problem.severity is not Severity.ERROR


def _yaml_lines(document: Mapping[str, Any] | None) -> list[str]:
    return [] if document is None else dump_text(document).splitlines()
