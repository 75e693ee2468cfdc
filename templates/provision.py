"""The sources of variables during a call."""

from __future__ import annotations

from templates.functions import HttpFunction
from templates.model import TemplateContent, Variable


def variables_kept(content: TemplateContent) -> set[str]:
    """Names of the variables that a template's own functions and transitions set."""
    kept = {
        name for function in content.functions if isinstance(function, HttpFunction) for name in function.keep
    }
    if content.flow is not None:
        lists = [content.flow.global_functions, *(node.functions for node in content.flow.nodes.values())]
        kept |= {name for functions in lists for function in functions for name in function.parameters}
        kept |= {
            node.dtmf.variable for node in content.flow.nodes.values() if node.dtmf and node.dtmf.variable
        }
    return kept


def variables_masked(content: TemplateContent) -> frozenset[str]:
    """Names of the masked variables (keys), which must not reach a record or a model."""
    nodes = content.flow.nodes.values() if content.flow is not None else ()
    inputs = (node.dtmf for node in nodes if node.dtmf is not None)
    return frozenset(each.variable for each in inputs if each.masked and each.variable)


def variables_taken(content: TemplateContent) -> tuple[Variable, ...]:
    """The variables that an agent is given when it is routed to.

    A variable that its own functions set is not asked for, unless it is required from the beginning.
    """
    kept = variables_kept(content)
    return tuple(
        variable
        for variable in content.variables
        if variable.source == "call" and (is_needed(variable) or variable.name not in kept)
    )


def is_needed(variable: Variable) -> bool:
    """Whether a variable has no value unless one is given."""
    return variable.required and variable.default is None
