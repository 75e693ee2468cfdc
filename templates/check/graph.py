"""Rules about routes and the graph that templates form: ways in, back and out, and what is handed over."""

from __future__ import annotations

from collections.abc import Iterator

from templates.bounds import LANGUAGE, TOOL_NAME
from templates.check.context import CheckContext, ways_in
from templates.check.flow import leading_to
from templates.check.rules import broken
from templates.check.similarity import alike
from templates.check.variables import kept
from templates.languages import names_language, primary_language
from templates.model import Route, TemplateContent, Variable
from templates.problem import Problem

Path = tuple[str | int, ...]

LEAVES_THE_CALL = frozenset({"end_call", "transfer_to_number", "escalate_to_person", "park_call"})
"""Functions by which an agent brings its part of a call to an end."""


def check_routes(content: TemplateContent, around: CheckContext) -> Iterator[Problem]:
    """Each route by itself, and all together."""
    if content.kind == "orchestrator" and not content.routes:
        yield broken("routes_missing", ("routes",), "The orchestrator has no one to route to.")
    if content.kind == "agent" and content.routes:
        yield broken("routes_on_agent", ("routes",), "Only an orchestrator routes.")
    seen: set[str] = set()
    led_to: dict[str, str] = {}
    for index, route in enumerate(content.routes):
        where = ("routes", index)
        yield from _route(where, route)
        if route.name in seen:
            yield broken("route_duplicate", (*where, "name"), f"There are two routes '{route.name}'.")
        seen.add(route.name)
        if route.template_id and route.template_id in led_to:
            message = f"'{route.name}' leads to the same agent as '{led_to[route.template_id]}'."
            yield broken("target_duplicate", (*where, "template_id"), message)
        led_to.setdefault(route.template_id, route.name)
    for (_, first), (index, second) in alike(list(enumerate(content.routes)), text=lambda each: each[1].when):
        message = f"A model can hardly tell '{second.name}' from '{first.name}' by their descriptions."
        yield broken("routes_alike", ("routes", index, "when"), message)


def _route(where: Path, route: Route) -> Iterator[Problem]:
    if route.name == "back":
        yield broken("route_name_reserved", (*where, "name"), "A route cannot be called 'back'.")
    elif not TOOL_NAME.fits(route.name):
        yield broken(
            "route_name_invalid", (*where, "name"), f"'{route.name}' is not a name a model can repeat."
        )
    if not route.when.strip():
        yield broken(
            "route_when_missing", (*where, "when"), f"The model is not told when to take '{route.name}'."
        )
    if route.announce is not None and not route.announce.strip():
        yield broken("announce_empty", (*where, "announce"), "There is nothing to say in it.")


def check_targets(content: TemplateContent, around: CheckContext) -> Iterator[Problem]:
    """What the routes lead to."""
    if around.templates is None:
        return
    for index, route in enumerate(content.routes):
        where = ("routes", index)
        place = (*where, "template_id")
        target = around.templates.get(route.template_id)
        if route.template_id and route.template_id == around.template_id:
            yield broken("route_to_itself", place, f"'{route.name}' leads back to this template.")
        elif target is None:
            yield broken("target_missing", place, f"'{route.name}' leads to no template of this account.")
        else:
            if target.kind != "agent":
                yield broken("target_not_agent", place, f"'{target.name}' is an orchestrator.")
            if target.status != "active":
                yield broken("target_inactive", place, f"'{target.name}' is not active.")
            yield from _handing_over(where, route, target, content)


def _handing_over(
    where: Path, route: Route, target: TemplateContent, content: TemplateContent
) -> Iterator[Problem]:
    theirs, ours = primary_language(target.language), primary_language(content.language)
    told = names_language(route.when, target.language)
    if theirs != ours and LANGUAGE.fits(content.language) and not told:
        message = f"This template speaks {content.language}, '{target.name}' speaks {target.language}."
        yield broken("language_mismatch", (*where, "template_id"), message)
    if route.context == "variables" and not target.variables:
        message = f"'{target.name}' declares no variables, so it would learn nothing."
        yield broken("context_without_variables", (*where, "context"), message)
    for variable in target.variables:
        if variable.required and variable.default is None:
            yield from _provided(where, route, target, variable, content)
    if not route.can_return and not _ends(target):
        message = f"'{target.name}' can neither send the caller back nor end the call."
        yield broken("no_way_out", (*where, "can_return"), message)


def _provided(
    where: Path, route: Route, target: TemplateContent, variable: Variable, content: TemplateContent
) -> Iterator[Problem]:
    if variable.source == "call":
        if route.context == "none" and variable.name not in kept(target):
            yield broken(
                "target_variable_unprovided",
                (*where, "context"),
                f"'{target.name}' requires '{variable.name}', but context `none` hands nothing over.",
                better="Choose another `context`, or make the variable optional in that template.",
            )
        return
    ours = {own.name: own for own in content.variables if own.source == "payload"}.get(variable.name)
    if ours is None or not (ours.required or ours.default is not None):
        yield broken(
            "target_variable_unprovided",
            (*where, "template_id"),
            f"'{target.name}' requires '{variable.name}' of the payload, which this template does not "
            f"require.",
            better=(
                f"Declare '{variable.name}' here as required too, or make it optional or of source `call` "
                f"there."
            ),
        )


def check_hops(content: TemplateContent, around: CheckContext) -> Iterator[Problem]:
    """Whether the limit of hops leaves room for the routes."""
    if not content.routes:
        return
    hops = content.limits.max_hops
    if hops == 0:
        yield broken("hop_limit_zero", ("limits", "max_hops"), "No hop is allowed, but there are routes.")
    elif hops == 1 and any(route.can_return for route in content.routes):
        message = "One hop is allowed: an agent could never send the caller back."
        yield broken("hop_limit_low", ("limits", "max_hops"), message)


def check_ways(content: TemplateContent, around: CheckContext) -> Iterator[Problem]:
    """Whether callers come to this agent, and whether they get away from it."""
    ways = list(ways_in(around))
    if around.templates is not None and content.kind == "agent" and content.status == "active" and not ways:
        yield broken("agent_unreached", ("status",), "No active orchestrator routes to this agent.")
    if content.kind == "orchestrator" or any(route.can_return for _, route in ways):
        return
    ends = _ends(content)
    if content.flow is None:
        if not ends:
            yield broken("no_exit", ("functions",), "The agent has no way to end the call.")
        return
    safe = leading_to(content.flow, ends)
    stuck = [name for name in content.flow.nodes if name not in safe]
    if stuck:
        listed = ", ".join(f"'{name}'" for name in stuck[:5]) + (" and others" if len(stuck) > 5 else "")
        message = f"A conversation that has come to {listed} never ends by itself."
        yield broken("no_exit", ("flow", "nodes", stuck[0]), message)


def _ends(content: TemplateContent) -> set[str]:
    """Nodes at which the agent can end its part of the call (for a prompt, one that stands for it)."""
    names = {function.name for function in content.functions}
    if content.flow is None:
        return {"prompt"} if names & LEAVES_THE_CALL else set()
    names |= {function.name for function in content.flow.global_functions}
    return {
        node
        for node, found in content.flow.nodes.items()
        if (names | {function.name for function in found.functions}) & LEAVES_THE_CALL
        or any(action.type == "end_conversation" for action in found.post_actions)
    }
