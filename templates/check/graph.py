"""Rules about routes and the graph of templates: targets, entries, exits, and handover of variables."""

from __future__ import annotations

from collections.abc import Iterator

from templates.bounds import LANGUAGE, TOOL_NAME
from templates.check.context import CheckContext, agents_reached, reaching, routes_to_checked_template
from templates.check.flow import LEAVING_FUNCTIONS, nodes_leading_to
from templates.check.rules import problem_for
from templates.check.similarity import similar_pairs
from templates.languages import names_language, primary_language
from templates.model import Route, TemplateContent, Variable
from templates.problem import Problem
from templates.provision import is_needed, variables_kept

Path = tuple[str | int, ...]

MAX_AGENTS = 100
"""How many agents a call may reach: all of them are prepared, with their voices, when the call begins."""


def check_routes(content: TemplateContent, _context: CheckContext) -> Iterator[Problem]:
    """Check each route, and the routes against each other."""
    if content.kind == "orchestrator" and not content.routes:
        yield problem_for("routes_missing", ("routes",), "The orchestrator has no routes.")
    seen: set[str] = set()
    first_route_to: dict[str, str] = {}
    for index, route in enumerate(content.routes):
        where = ("routes", index)
        yield from _route(where, route)
        if route.name in seen:
            yield problem_for("route_duplicate", (*where, "name"), f"There are two routes '{route.name}'.")
        seen.add(route.name)
        if route.template_id and route.template_id in first_route_to:
            message = f"'{route.name}' leads to the same agent as '{first_route_to[route.template_id]}'."
            yield problem_for("target_duplicate", (*where, "template_id"), message)
        first_route_to.setdefault(route.template_id, route.name)
    for (_, first), (index, second) in similar_pairs(
        list(enumerate(content.routes)), text=lambda each: each[1].when
    ):
        message = (
            f"The texts of '{first.name}' and '{second.name}' are so similar that a model may confuse them."
        )
        yield problem_for("routes_alike", ("routes", index, "when"), message)


def _route(where: Path, route: Route) -> Iterator[Problem]:
    if route.name == "back":
        yield problem_for("route_name_reserved", (*where, "name"), "The route name 'back' is reserved.")
    elif not TOOL_NAME.matches(route.name):
        yield problem_for(
            "route_name_invalid", (*where, "name"), f"'{route.name}' is not a valid route name."
        )
    if not route.when.strip():
        yield problem_for(
            "route_when_missing",
            (*where, "when"),
            f"'{route.name}' has no `when`: the model cannot tell when to use it.",
        )
    if route.announce is not None and not route.announce.strip():
        yield problem_for("announce_empty", (*where, "announce"), "The announcement is empty.")


def check_targets(content: TemplateContent, context: CheckContext) -> Iterator[Problem]:
    """Check the target of each route."""
    if context.templates is None:
        return
    for index, route in enumerate(content.routes):
        where = ("routes", index)
        place = (*where, "template_id")
        target = context.templates.get(route.template_id)
        if route.template_id and route.template_id == context.template_id:
            yield problem_for("route_to_itself", place, f"'{route.name}' leads to this template itself.")
        elif target is None:
            yield problem_for(
                "target_missing", place, f"'{route.name}' does not lead to a template of this account."
            )
        else:
            if target.kind != "agent":
                yield problem_for("target_not_agent", place, f"'{target.name}' is an orchestrator.")
            if target.status != "active":
                yield problem_for("target_inactive", place, f"'{target.name}' is not active.")
            yield from _check_handover(where, route, target, content)
    if len(reached := agents_reached(content, context.templates)) > MAX_AGENTS:
        message = f"The routes lead to {len(reached)} agents, directly and through other agents."
        yield problem_for("agents_many", ("routes",), message)


def _check_handover(
    where: Path, route: Route, target: TemplateContent, content: TemplateContent
) -> Iterator[Problem]:
    target_language, own_language = primary_language(target.language), primary_language(content.language)
    names_target = names_language(route.when, target.language)
    if target_language != own_language and LANGUAGE.matches(content.language) and not names_target:
        message = f"This template speaks {content.language}, '{target.name}' speaks {target.language}."
        yield problem_for("language_mismatch", (*where, "template_id"), message)
    if route.context == "variables" and not target.variables:
        message = f"'{target.name}' declares no variables, so nothing would be handed over."
        yield problem_for("context_without_variables", (*where, "context"), message)
    for variable in target.variables:
        if is_needed(variable):
            yield from _check_provided(where, route, target, variable, content)
    if not route.can_return and not target.routes and not _exit_nodes(target):
        message = f"'{target.name}' can neither return the caller nor end the call."
        yield problem_for("no_way_out", (*where, "can_return"), message)


def _check_provided(
    where: Path, route: Route, target: TemplateContent, variable: Variable, content: TemplateContent
) -> Iterator[Problem]:
    if variable.source == "call":
        if not variable.description.strip() and route.context != "none":
            message = f"'{target.name}' requires '{variable.name}', which has no description."
            detail = f"Describe '{variable.name}' in that template: this model asks the caller for it."
            yield problem_for("target_variable_undescribed", (*where, "template_id"), message, detail=detail)
        if route.context == "none" and variable.name not in variables_kept(target):
            yield problem_for(
                "target_variable_unprovided",
                (*where, "context"),
                f"'{target.name}' requires '{variable.name}', but context `none` hands over no variables.",
                detail="Choose another `context`, or make the variable optional in that template.",
            )
        return
    own_language = {own.name: own for own in content.variables if own.source == "payload"}.get(variable.name)
    if own_language is None or not (own_language.required or own_language.default is not None):
        yield problem_for(
            "target_variable_unprovided",
            (*where, "template_id"),
            f"'{target.name}' requires '{variable.name}' from the payload; this template does not.",
            detail=(
                f"Declare '{variable.name}' as required in this template, or make it optional or of source "
                f"`call` in that template."
            ),
        )


def check_hops(content: TemplateContent, _context: CheckContext) -> Iterator[Problem]:
    """Check that the hop limit permits the routes."""
    if not content.routes or content.kind == "agent":
        return
    hops = content.limits.max_hops
    if hops == 0:
        yield problem_for(
            "hop_limit_zero", ("limits", "max_hops"), "The hop limit is 0, but the template has routes."
        )
    elif hops == 1 and any(route.can_return for route in content.routes):
        message = "The hop limit is 1: an agent could not return the caller."
        yield problem_for("hop_limit_low", ("limits", "max_hops"), message)


def check_entry_and_exit(content: TemplateContent, context: CheckContext) -> Iterator[Problem]:
    """Check that callers can reach this agent, and that its part of the call can end."""
    is_active_agent = content.kind == "agent" and content.status == "active"
    if context.templates is not None and is_active_agent and not any(True for _ in reaching(context)):
        message = "No active orchestrator routes to this agent, directly or through other agents."
        yield problem_for("agent_unreached", ("status",), message)
    incoming = routes_to_checked_template(context)
    if content.kind == "orchestrator" or content.routes or any(route.can_return for _, route in incoming):
        return
    ends = _exit_nodes(content)
    if content.flow is None:
        if not ends:
            yield problem_for(
                "no_exit", ("functions",), "The agent has no function that ends its part of the call."
            )
        return
    nodes_with_exit = nodes_leading_to(content.flow, ends)
    nodes_without_exit = [name for name in content.flow.nodes if name not in nodes_with_exit]
    if nodes_without_exit:
        listed = ", ".join(f"'{name}'" for name in nodes_without_exit[:5]) + (
            " and others" if len(nodes_without_exit) > 5 else ""
        )
        message = f"From {listed} no node can be reached that ends the agent's part of the call."
        yield problem_for("no_exit", ("flow", "nodes", nodes_without_exit[0]), message)


def _exit_nodes(content: TemplateContent) -> set[str]:
    """Names of the nodes at which the agent can end its part of the call ("prompt" for a prompt)."""
    names = {function.name for function in content.functions}
    if content.flow is None:
        return {"prompt"} if names & LEAVING_FUNCTIONS else set()
    names |= {function.name for function in content.flow.global_functions}
    return {
        node
        for node, found in content.flow.nodes.items()
        if (names | {function.name for function in found.functions}) & LEAVING_FUNCTIONS
        or any(action.type == "end_conversation" for action in found.post_actions)
    }
