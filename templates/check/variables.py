"""Rules about the declarations of variables, and whether anything ever fills them."""

from __future__ import annotations

from collections.abc import Iterator

from templates.bounds import VARIABLE_NAME
from templates.check.context import CheckContext
from templates.check.rules import broken
from templates.check.texts import inserting_texts
from templates.functions import HttpFunction
from templates.model import TemplateContent, Variable
from templates.problem import Problem
from templates.values import coerce, placeholders


def check_variables(content: TemplateContent, around: CheckContext) -> Iterator[Problem]:
    """Names, defaults, use."""
    used = {path.partition(".")[0] for text in inserting_texts(content) for path in placeholders(text.text)}
    used |= kept(content)
    seen: set[str] = set()
    for index, variable in enumerate(content.variables):
        where = ("variables", index)
        if not VARIABLE_NAME.fits(variable.name):
            message = f"'{variable.name}' cannot be inserted with {{{{ }}}}."
            yield broken("variable_name_invalid", (*where, "name"), message)
        elif variable.name in seen:
            yield broken("variable_duplicate", (*where, "name"), f"'{variable.name}' is declared twice.")
        elif variable.name not in used and not _handed_over(content, variable):
            yield broken("variable_unused", (*where, "name"), f"Nothing uses '{variable.name}'.")
        seen.add(variable.name)
        yield from _default(where, variable)


def kept(content: TemplateContent) -> set[str]:
    """Variables that HTTP functions of the template fill."""
    return {
        name for function in content.functions if isinstance(function, HttpFunction) for name in function.keep
    }


def _handed_over(content: TemplateContent, variable: Variable) -> bool:
    """An orchestrator may declare a value only to have it checked and to hand it to its targets."""
    return content.kind == "orchestrator" and variable.source == "payload"


def _default(where: tuple[str | int, ...], variable: Variable) -> Iterator[Problem]:
    if variable.default is None:
        return
    try:
        coerce(variable.type, variable.default)
    except ValueError as error:
        message = f"The default of '{variable.name}' should be {error}."
        yield broken("variable_default_type", (*where, "default"), message)
    if variable.required:
        message = f"'{variable.name}' is required, yet has a default for when it is missing."
        yield broken("variable_required_default", (*where, "required"), message)


def check_provision(content: TemplateContent, around: CheckContext) -> Iterator[Problem]:
    """Required variables that nothing can fill where a call begins with this template."""
    for index, variable in enumerate(content.variables):
        if not variable.required or variable.default is not None:
            continue
        where = ("variables", index, "required")
        if (
            content.kind == "orchestrator"
            and variable.source == "call"
            and variable.name not in kept(content)
        ):
            message = f"'{variable.name}' is required, but no function keeps it: nothing would ever fill it."
            yield broken("variable_unprovided", where, message)
        if content.number_id is not None and variable.source == "payload":
            message = f"'{variable.name}' is required from the payload, which a caller's call does not have."
            yield broken("payload_on_inbound", where, message)
