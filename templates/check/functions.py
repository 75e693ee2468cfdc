"""Rules about the functions of the template and the numbers they may dial."""

from __future__ import annotations

from collections.abc import Iterator

from templates.bounds import E164, TOOL_NAME
from templates.check.context import BUILTIN_FUNCTIONS, CheckContext
from templates.check.rules import broken
from templates.check.similarity import alike
from templates.functions import HttpFunction
from templates.model import TemplateContent
from templates.problem import Problem


def check_functions(content: TemplateContent, around: CheckContext) -> Iterator[Problem]:
    """Names and descriptions."""
    seen: set[str] = set()
    for index, function in enumerate(content.functions):
        where = ("functions", index, "name")
        name = function.name
        if isinstance(function, HttpFunction):
            if name in around.builtins | BUILTIN_FUNCTIONS:
                yield broken("function_name_reserved", where, f"'{name}' is a built-in function.")
            elif not TOOL_NAME.fits(name):
                yield broken("function_name_invalid", where, f"'{name}' is not a name a model can call.")
            if not function.description.strip():
                message = f"The model is not told what '{name}' is for."
                yield broken("function_undescribed", ("functions", index, "description"), message)
        elif name not in around.builtins:
            message = (
                f"There is no built-in function '{name}'. There are: {', '.join(sorted(around.builtins))}."
            )
            yield broken("function_unknown", where, message)
        elif name == "route_to_agent":
            yield broken("route_function_automatic", where, "'route_to_agent' need not be declared.")
        if name in seen:
            yield broken("function_duplicate", where, f"There are two functions '{name}'.")
        seen.add(name)
    yield from _confusable(content)


def _confusable(content: TemplateContent) -> Iterator[Problem]:
    described = [
        (index, function.name, function.description)
        for index, function in enumerate(content.functions)
        if isinstance(function, HttpFunction)
    ]
    for (_, first, _), (index, second, _) in alike(described, text=lambda each: each[2]):
        message = f"A model can hardly tell '{second}' from '{first}' by their descriptions."
        yield broken("functions_alike", ("functions", index, "description"), message)


def check_destinations(content: TemplateContent, around: CheckContext) -> Iterator[Problem]:
    """The numbers a call may be transferred to."""
    transfers = [i for i, function in enumerate(content.functions) if function.name == "transfer_to_number"]
    if transfers and not content.destinations:
        message = "'transfer_to_number' has nowhere to transfer to."
        yield broken("destinations_missing", ("destinations",), message)
    if content.destinations and not transfers and not _named_in_flow(content, "transfer_to_number"):
        message = "No function can dial the destinations."
        better = "Remove them."
        if "transfer_to_number" in around.builtins:
            better = "Add the built-in function `transfer_to_number`, or remove the destinations."
        yield broken("destinations_unused", ("destinations",), message, better=better)
    seen: set[str] = set()
    for index, destination in enumerate(content.destinations):
        where = ("destinations", index)
        if not TOOL_NAME.fits(destination.name):
            message = f"'{destination.name}' is not a name a model can repeat."
            yield broken("destination_name_invalid", (*where, "name"), message)
        elif destination.name in seen:
            yield broken("destination_duplicate", (*where, "name"), f"There are two '{destination.name}'.")
        seen.add(destination.name)
        if not E164.fits(destination.number):
            message = f"'{destination.number}' is not an E.164 number."
            yield broken("destination_number_invalid", (*where, "number"), message)


def _named_in_flow(content: TemplateContent, name: str) -> bool:
    if content.flow is None:
        return False
    lists = [content.flow.global_functions, *(node.functions for node in content.flow.nodes.values())]
    return any(function.name == name for functions in lists for function in functions)
