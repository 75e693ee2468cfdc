"""Rules about input by the keys of the telephone, and about values that are masked."""

from __future__ import annotations

from collections.abc import Iterator

from templates.check.context import CheckContext
from templates.check.rules import problem_for
from templates.check.texts import texts_with_placeholders
from templates.flow import ConditionalTransition, DtmfInput
from templates.model import TemplateContent
from templates.problem import Problem
from templates.provision import variables_masked
from templates.values import placeholders

Path = tuple[str | int, ...]


def check_input(where: Path, given: DtmfInput, content: TemplateContent) -> Iterator[Problem]:
    """Check the variable that takes the keys of a node, and where they lead."""
    sources = {variable.name: variable.source for variable in content.variables}
    name = given.variable
    if name is not None and name not in sources:
        message = f"'{name}' is not a variable of the template."
        yield problem_for("transition_variable_unknown", (*where, "variable"), message)
    elif name is not None and sources[name] != "call":
        message = f"'{name}' has the source `payload`, which the caller cannot set."
        yield problem_for("transition_variable_source", (*where, "variable"), message)
    if given.masked and name is None:
        yield problem_for("dtmf_lost", (*where, "masked"), "Nobody is given the masked keys.")
    nodes = content.flow.nodes if content.flow is not None else {}
    for path, node in given.targets():
        if node not in nodes:
            message = f"The keys lead to '{node}', which is not a node of the flow."
            yield problem_for("transition_unknown_node", (*where, *path), message)
    if isinstance(given.transition_to, ConditionalTransition):
        conditions = (*where, "transition_to", "conditions")
        if not given.transition_to.conditions:
            yield problem_for("branch_empty", conditions, "There are no conditions.")
        for number, condition in enumerate(given.transition_to.conditions):
            if condition.variable not in sources:
                message = f"'{condition.variable}' is not a variable of the template."
                place = (*conditions, number, "variable")
                yield problem_for("transition_variable_unknown", place, message)


def check_masked(content: TemplateContent, _context: CheckContext) -> Iterator[Problem]:
    """Check that no text for a model or a voice inserts a masked value: both are recorded."""
    masked = variables_masked(content)
    for text in texts_with_placeholders(content) if masked else ():
        if text.path[0] == "functions" and text.path[-1] != "wait_text":
            continue
        for path in dict.fromkeys(placeholders(text.text)):
            if path.partition(".")[0] in masked and path not in text.extra:
                message = (
                    f"'{{{{ {path} }}}}' is masked where the caller enters it, and would be recorded here."
                )
                yield problem_for("masked_value_inserted", text.path, message)
