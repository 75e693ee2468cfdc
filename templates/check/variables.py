"""Rules about variables: declarations, use, and where their values come from."""

from __future__ import annotations

from collections.abc import Iterator

from templates.bounds import VARIABLE_NAME
from templates.check.context import CheckContext
from templates.check.rules import problem_for
from templates.check.texts import texts_with_placeholders
from templates.model import TemplateContent, Variable
from templates.problem import Problem
from templates.provision import is_needed, variables_kept, variables_taken
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
    """Whether the variable is validated only to be handed to the targets of the template's routes."""
    return bool(content.kind == "orchestrator" or content.routes) and variable.source == "payload"


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


def check_arrival(content: TemplateContent, _context: CheckContext) -> Iterator[Problem]:
    """Check that values which are set during the call can arrive before they are used."""
    kept = variables_kept(content)
    for index, variable in enumerate(content.variables):
        never = variable.source == "call" and not variable.required and variable.name not in kept
        if content.kind == "orchestrator" and never and variable.default is None:
            message = f"'{variable.name}' is set during the call, but no function sets it."
            yield problem_for("variable_never_set", ("variables", index, "source"), message)
    if content.greeting is None:
        return
    routed = {each.name for each in variables_taken(content)} if content.kind == "agent" else set()
    given = {each.name for each in content.variables if each.source == "payload" or each.default is not None}
    for path in dict.fromkeys(placeholders(content.greeting.text)):
        name = path.partition(".")[0]
        if name in kept - routed - given:
            message = (
                f"'{{{{ {path} }}}}' is set by a function, and no function is called before the greeting."
            )
            yield problem_for("kept_value_too_early", ("greeting", "text"), message)


def check_provision(content: TemplateContent, context: CheckContext) -> Iterator[Problem]:
    """Check that a call that begins with this template has a value for each required variable."""
    number = (context.numbers or {}).get(content.number_id or "")
    calls_back = (content.inbound is not None and content.inbound.calls_back) or (
        number and number.calls_back
    )
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
            kind, code = (
                ("a call-back", "payload_on_call_back")
                if calls_back
                else ("an inbound call", "payload_on_inbound")
            )
            message = f"'{variable.name}' is required from the payload, but {kind} has no payload."
            yield problem_for(code, where, message)
