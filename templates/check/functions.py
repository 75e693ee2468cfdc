"""Rules about the template's functions and the numbers that may be dialled."""

from __future__ import annotations

import re
from collections.abc import Iterator

from templates.bounds import E164, TOOL_NAME
from templates.check.context import BUILTIN_FUNCTIONS, CheckContext, KnownNumber, reaching
from templates.check.rules import problem_for
from templates.check.similarity import similar_pairs
from templates.check.texts import instructions
from templates.functions import HttpFunction
from templates.model import TemplateContent
from templates.problem import Problem


def check_functions(content: TemplateContent, context: CheckContext) -> Iterator[Problem]:
    """Check names and descriptions of the functions."""
    seen: set[str] = set()
    for index, function in enumerate(content.functions):
        where = ("functions", index, "name")
        name = function.name
        if isinstance(function, HttpFunction):
            if name in context.builtins | BUILTIN_FUNCTIONS:
                yield problem_for("function_name_reserved", where, f"'{name}' is a built-in function.")
            elif not TOOL_NAME.matches(name):
                yield problem_for("function_name_invalid", where, f"'{name}' is not a valid function name.")
            if not function.description.strip():
                message = f"'{name}' has no description for the model."
                yield problem_for("function_undescribed", ("functions", index, "description"), message)
        elif name not in context.builtins:
            message = (
                f"There is no built-in function '{name}'. Built-in: {', '.join(sorted(context.builtins))}."
            )
            yield problem_for("function_unknown", where, message)
        elif name == "route_to_agent":
            yield problem_for(
                "route_function_automatic", where, "'route_to_agent' does not need to be declared."
            )
        if name in seen:
            yield problem_for("function_duplicate", where, f"There are two functions '{name}'.")
        seen.add(name)
    yield from _confusable(content)


def check_named_functions(content: TemplateContent, context: CheckContext) -> Iterator[Problem]:
    """Check that built-in functions that are named in instructions are offered."""
    offered = {function.name for function in content.functions} | {"route_to_agent"}
    for flow in [content.flow] if content.flow is not None else []:
        lists = [flow.global_functions, *(node.functions for node in flow.nodes.values())]
        offered |= {function.name for functions in lists for function in functions}
    for text in instructions(content):
        for name in sorted(BUILTIN_FUNCTIONS - offered):
            if re.search(rf"(?<![\w-]){name}(?![\w-])", text.text):
                known = name in context.builtins
                message = f"The instructions name '{name}', which is not offered to the model."
                add = (
                    f'Add {{"type": "builtin", "name": "{name}"}} to `functions`, or remove it from the text.'
                )
                detail = add if known else "Remove it from the text: this server has no such function."
                yield problem_for("function_named_undeclared", text.path, message, detail=detail)


def _confusable(content: TemplateContent) -> Iterator[Problem]:
    candidates = [
        (index, function.name, function.description)
        for index, function in enumerate(content.functions)
        if isinstance(function, HttpFunction)
    ]
    for (_, first, _), (index, second, _) in similar_pairs(candidates, text=lambda each: each[2]):
        message = (
            f"The descriptions of '{first}' and '{second}' are so similar that a model may confuse them."
        )
        yield problem_for("functions_alike", ("functions", index, "description"), message)


def check_destinations(content: TemplateContent, context: CheckContext) -> Iterator[Problem]:
    """Check the numbers to which a call may be transferred."""
    transfers = [i for i, function in enumerate(content.functions) if function.name == "transfer_to_number"]
    if transfers and not content.destinations:
        message = "'transfer_to_number' is offered, but no destination is declared."
        yield problem_for("destinations_missing", ("destinations",), message)
    if content.destinations and not transfers and not _named_in_flow(content, "transfer_to_number"):
        message = "Destinations are declared, but no function uses them."
        detail = "Remove the destinations."
        if "transfer_to_number" in context.builtins:
            detail = "Add the built-in function `transfer_to_number`, or remove the destinations."
        yield problem_for("destinations_unused", ("destinations",), message, detail=detail)
    seen: set[str] = set()
    for index, destination in enumerate(content.destinations):
        where = ("destinations", index)
        if not TOOL_NAME.matches(destination.name):
            message = f"'{destination.name}' is not a valid destination name."
            yield problem_for("destination_name_invalid", (*where, "name"), message)
        elif destination.name in seen:
            yield problem_for(
                "destination_duplicate", (*where, "name"), f"There are two destinations '{destination.name}'."
            )
        seen.add(destination.name)
        if not E164.matches(destination.number):
            message = f"'{destination.number}' is not an E.164 number."
            yield problem_for("destination_number_invalid", (*where, "number"), message)


def check_transfers(content: TemplateContent, context: CheckContext) -> Iterator[Problem]:
    """Check that the carriers of the numbers whose calls reach the template can transfer them."""
    if not content.destinations:
        return
    known = {each.carrier: each for each in _numbers(content, context)}
    for name, number in known.items():
        if number.rules.has_attended_transfers:
            continue
        for index, destination in enumerate(content.destinations):
            if destination.mode == "attended":
                message = f"'{destination.name}' cannot be called: {name} has no attended transfers."
                detail = "Use the mode `cold`, or a number of another carrier."
                yield problem_for(
                    "not_possible_at_carrier", ("destinations", index, "mode"), message, detail=detail
                )
    for name, number in known.items():
        if missing := ", ".join(number.rules.missing_to_transfer):
            message = f"Calls that are dialled from the number of {name} cannot be transferred."
            detail = f"Set {missing} on the server, if leads of this template are to be transferred."
            yield problem_for("not_possible_at_carrier", ("destinations",), message, detail=detail)


def _numbers(content: TemplateContent, context: CheckContext) -> Iterator[KnownNumber]:
    """The numbers whose calls reach a template: its own, and those of orchestrators that lead to it."""
    for each in (content, *reaching(context)):
        if number := (context.numbers or {}).get(each.number_id or ""):
            yield number


def _named_in_flow(content: TemplateContent, name: str) -> bool:
    if content.flow is None:
        return False
    lists = [content.flow.global_functions, *(node.functions for node in content.flow.nodes.values())]
    return any(function.name == name for functions in lists for function in functions)
