"""Rules about variables: declarations, use, and where their values come from."""

from __future__ import annotations

from collections.abc import Iterator

from templates.bounds import VARIABLE_NAME
from templates.check.context import CheckContext
from templates.check.rules import problem_for
from templates.check.texts import texts_with_placeholders
from templates.model import TemplateContent, Variable
from templates.problem import Problem
from templates.provision import is_needed, variables_kept
from templates.values import coerce, placeholders


def check_variables(content: TemplateContent, _context: CheckContext) -> Iterator[Problem]:
    """Check names, defaults and use of the variables."""
    used = {
        path.partition(".")[0]
        for text in texts_with_placeholders(content)
        for path in placeholders(text.text)
    }
    used |= variables_kept(content)
    seen: set[str] = set()
    for index, variable in enumerate(content.variables):
        where = ("variables", index)
        if not VARIABLE_NAME.matches(variable.name):
            message = f"'{variable.name}' is not a valid variable name."
            yield problem_for("variable_name_invalid", (*where, "name"), message)
        elif variable.name in seen:
            yield problem_for("variable_duplicate", (*where, "name"), f"'{variable.name}' is declared twice.")
        elif variable.name not in used and not _handed_over(content, variable):
            yield problem_for(
                "variable_unused", (*where, "name"), f"The variable '{variable.name}' is not used."
            )
        seen.add(variable.name)
        yield from _default(where, variable)


def _handed_over(content: TemplateContent, variable: Variable) -> bool:
    """Whether the variable is validated by an orchestrator only to be handed to its targets."""
    return content.kind == "orchestrator" and variable.source == "payload"


def _default(where: tuple[str | int, ...], variable: Variable) -> Iterator[Problem]:
    if variable.default is None:
        return
    try:
        coerce(variable.type, variable.default)
    except ValueError as error:
        message = f"The default of '{variable.name}' must be {error}."
        yield problem_for("variable_default_type", (*where, "default"), message)
    if variable.required:
        message = f"'{variable.name}' is required, but also has a default."
        yield problem_for("variable_required_default", (*where, "required"), message)


def check_provision(content: TemplateContent, _context: CheckContext) -> Iterator[Problem]:
    """Check that a call that begins with this template has a value for each required variable."""
    for index, variable in enumerate(content.variables):
        if not is_needed(variable):
            continue
        where = ("variables", index, "required")
        if (
            content.kind == "orchestrator"
            and variable.source == "call"
            and variable.name not in variables_kept(content)
        ):
            message = f"'{variable.name}' is required, but no function sets it."
            yield problem_for("variable_unprovided", where, message)
        if content.number_id is not None and variable.source == "payload":
            message = f"'{variable.name}' is required from the payload, but an inbound call has no payload."
            yield problem_for("payload_on_inbound", where, message)
