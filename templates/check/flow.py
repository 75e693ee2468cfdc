"""Rules about the flow: nodes, their functions, transitions and actions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from templates.bounds import TOOL_NAME
from templates.check.context import CheckContext
from templates.check.dtmf import check_input
from templates.check.rules import problem_for
from templates.flow import Action, Branch, ConditionalTransition, FlowDocument, FlowFunction, Node
from templates.model import TemplateContent
from templates.problem import Problem

Path = tuple[str | int, ...]

_ROLES = frozenset({"developer", "system", "user", "assistant"})
_LEAVING_FUNCTIONS = frozenset({"route_to_agent", "end_call", "transfer_to_number"})

LEAVING_FUNCTIONS = frozenset({"end_call", "transfer_to_number", "escalate_to_person", "park_call"})
"""Functions that end the agent's part of a call."""

_ALTERNATIVES = {
    "tts_say": "Use the template's `greeting`, a task message, or the `wait_text` of an HTTP function.",
    "function": "Use an HTTP function or a built-in function in `functions`.",
}
_DEFAULT_ALTERNATIVE = "Actions run program code, which a template cannot contain: use `functions`."


def check_flow(content: TemplateContent, context: CheckContext) -> Iterator[Problem]:
    """Check the whole flow, if the template has one."""
    flow = content.flow
    yield from _limited(content)
    if flow is None:
        return
    if not flow.nodes:
        yield problem_for("flow_empty", ("flow", "nodes"), "The flow has no nodes.")
        return
    known = context.builtins | {function.name for function in content.functions}
    shared = {function.name for function in flow.global_functions}
    yield from _functions(("flow", "global_functions"), flow.global_functions, flow, known)
    yield from _variables(content, ("flow", "global_functions"), flow.global_functions)
    for name, node in flow.nodes.items():
        where = ("flow", "nodes", name)
        yield from _node(where, name, node)
        yield from _functions((*where, "functions"), node.functions, flow, known, shared)
        yield from _variables(content, (*where, "functions"), node.functions)
        yield from _actions(where, node)
        if node.dtmf is not None:
            yield from check_input((*where, "dtmf"), node.dtmf, content)
    yield from _entry(flow)
    yield from _reachability(flow)
    yield from _edges(content, flow)


def _entry(flow: FlowDocument) -> Iterator[Problem]:
    entry = flow.nodes.get(flow.initial_node)
    if entry is None:
        message = f"The flow has no node '{flow.initial_node}'."
        yield problem_for("initial_node_unknown", ("flow", "initial_node"), message)
    elif not (entry.role_message or "").strip():
        message = (
            "The first node has no `role_message`: after a route, the previous agent's role would remain."
        )
        yield problem_for(
            "role_message_missing", ("flow", "nodes", flow.initial_node, "role_message"), message
        )


def _node(where: Path, name: str, node: Node) -> Iterator[Problem]:
    if not name.strip():
        yield problem_for("node_name_empty", where, "A node has an empty name.")
    if (
        not any(message.content.strip() for message in node.task_messages)
        and not (node.role_message or "").strip()
        and not (node.say or "").strip()
    ):
        yield problem_for(
            "node_silent", (*where, "task_messages"), f"Node '{name}' has no instruction for the model."
        )
    for index, message in enumerate(node.task_messages):
        if message.role not in _ROLES:
            place = (*where, "task_messages", index, "role")
            yield problem_for("message_role_invalid", place, f"'{message.role}' is not a valid message role.")


def _functions(
    where: Path,
    functions: Iterable[FlowFunction],
    flow: FlowDocument,
    known: frozenset[str] | set[str],
    taken: Iterable[str] = (),
) -> Iterator[Problem]:
    seen = set(taken)
    for index, function in enumerate(functions):
        place = (*where, index)
        if function.name in seen:
            yield problem_for("function_duplicate", (*place, "name"), f"'{function.name}' is listed twice.")
        seen.add(function.name)
        if function.transition_only:
            yield from _transition_only(place, function, known)
        else:
            yield from _named(place, function, known)
        yield from _transitions(place, function, flow)


def _variables(content: TemplateContent, where: Path, functions: Iterable[FlowFunction]) -> Iterator[Problem]:
    """Check the variables that transitions set and compare."""
    sources = {variable.name: variable.source for variable in content.variables}
    for index, function in enumerate(functions):
        for number, name in enumerate(function.parameters):
            place = (*where, index, "parameters", number)
            if name not in sources:
                message = f"'{name}' is not a variable of the template."
                yield problem_for("transition_variable_unknown", place, message)
            elif sources[name] != "call":
                message = f"'{name}' has the source `payload`, which the model cannot set."
                yield problem_for("transition_variable_source", place, message)
        if function.parameters and not function.transition_only:
            message = f"'{function.name}' is not `transition_only`, so it cannot have `parameters` here."
            yield problem_for("transition_parameters_refused", (*where, index, "parameters"), message)
        if isinstance(function.transition_to, ConditionalTransition):
            for number, condition in enumerate(function.transition_to.conditions):
                if condition.variable not in sources:
                    place = (*where, index, "transition_to", "conditions", number, "variable")
                    message = f"'{condition.variable}' is not a variable of the template."
                    yield problem_for("transition_variable_unknown", place, message)


def _limited(content: TemplateContent) -> Iterator[Problem]:
    """Check the nodes to which functions are limited."""
    known = content.flow.nodes if content.flow is not None else {}
    for index, function in enumerate(content.functions):
        for number, node in enumerate(function.nodes or ()):
            if node not in known:
                message = f"'{function.name}' is offered at '{node}', which is not a node of the flow."
                yield problem_for("function_node_unknown", ("functions", index, "nodes", number), message)


def _transition_only(
    where: Path, function: FlowFunction, known: frozenset[str] | set[str]
) -> Iterator[Problem]:
    if not TOOL_NAME.matches(function.name):
        yield problem_for(
            "function_name_invalid", (*where, "name"), f"'{function.name}' is not a valid function name."
        )
    elif function.name in known:
        message = f"'{function.name}' is also a function of the template or a built-in one."
        yield problem_for("function_shadowed", (*where, "name"), message)
    if not (function.description or "").strip():
        message = f"'{function.name}' has no description: the model cannot tell when to call it."
        yield problem_for("transition_only_undescribed", (*where, "description"), message)
    if not isinstance(function.transition_to, str | ConditionalTransition):
        message = f"'{function.name}' is `transition_only`, but `transition_to` names no node."
        yield problem_for("transition_only_target", (*where, "transition_to"), message)


def _named(where: Path, function: FlowFunction, known: frozenset[str] | set[str]) -> Iterator[Problem]:
    if function.name not in known:
        message = f"'{function.name}' is neither a function of the template nor a built-in one."
        yield problem_for("function_unknown", (*where, "name"), message)
    if function.description is not None:
        message = f"'{function.name}' has a description here; only a `transition_only` function may have one."
        yield problem_for("function_description_refused", (*where, "description"), message)
    if function.name in _LEAVING_FUNCTIONS and function.transition_to is not None:
        message = f"The conversation leaves the flow when '{function.name}' is called."
        yield problem_for("transition_never_taken", (*where, "transition_to"), message)


def _transitions(where: Path, function: FlowFunction, flow: FlowDocument) -> Iterator[Problem]:
    for path, node in function.targets():
        if node not in flow.nodes:
            message = f"'{function.name}' leads to '{node}', which is not a node of the flow."
            yield problem_for("transition_unknown_node", (*where, *path), message)
    branch = function.transition_to
    if isinstance(branch, Branch) and not branch.cases:
        yield problem_for("branch_empty", (*where, "transition_to", "cases"), "The branch has no cases.")
    if isinstance(branch, ConditionalTransition) and not branch.conditions:
        place = (*where, "transition_to", "conditions")
        yield problem_for("branch_empty", place, "There are no conditions.")


def _edges(content: TemplateContent, flow: FlowDocument) -> Iterator[Problem]:
    """Check that every node of an agent leads somewhere; a template with routes routes from any node."""
    shared = {function.name for function in (*content.functions, *flow.global_functions)}
    if content.kind == "orchestrator" or content.routes or len(flow.nodes) < 2 or shared & LEAVING_FUNCTIONS:
        return
    for name, node in flow.nodes.items():
        leads = bool(_successors(flow, name)) or any(
            function.name in LEAVING_FUNCTIONS for function in node.functions
        )
        if not leads and not node.post_actions:
            message = f"From node '{name}' the conversation cannot go anywhere."
            yield problem_for("node_without_edges", ("flow", "nodes", name), message)


def _actions(where: Path, node: Node) -> Iterator[Problem]:
    for index, action in enumerate(node.pre_actions):
        place = (*where, "pre_actions", index, "type")
        if action.type == "end_conversation":
            yield problem_for(
                "action_end_early", place, "The call would end before the agent speaks at this node."
            )
        else:
            yield _refused(place, action)
    for index, action in enumerate(node.post_actions):
        if action.type != "end_conversation":
            yield _refused((*where, "post_actions", index, "type"), action)
            continue
        for option in action.options():
            place = (*where, "post_actions", index, option)
            yield problem_for(
                "action_option_refused", place, f"`end_conversation` does not accept '{option}'."
            )


def _refused(where: Path, action: Action) -> Problem:
    message = f"The action '{action.type}' is not available to templates."
    return problem_for(
        "action_refused", where, message, detail=_ALTERNATIVES.get(action.type, _DEFAULT_ALTERNATIVE)
    )


def _reachability(flow: FlowDocument) -> Iterator[Problem]:
    if flow.initial_node not in flow.nodes:
        return
    reached = reachable_nodes(flow, flow.initial_node)
    for name in flow.nodes:
        if name not in reached:
            yield problem_for(
                "node_unreachable", ("flow", "nodes", name), f"No transition leads to node '{name}'."
            )


def reachable_nodes(flow: FlowDocument, start: str) -> set[str]:
    """Names of the nodes that can be reached from ``start``, including ``start``."""
    return _closure({start}, {name: _successors(flow, name) for name in flow.nodes})


def nodes_leading_to(flow: FlowDocument, ends: set[str]) -> set[str]:
    """Names of the nodes from which one of ``ends`` can be reached, including ``ends``."""
    predecessors: dict[str, set[str]] = {name: set() for name in flow.nodes}
    for name in flow.nodes:
        for node in _successors(flow, name):
            predecessors[node].add(name)
    return _closure(set(ends), predecessors)


def _successors(flow: FlowDocument, name: str) -> set[str]:
    functions = (*flow.global_functions, *flow.nodes[name].functions)
    pressed = flow.nodes[name].dtmf
    targets = [target for function in functions for target in function.targets()]
    targets += pressed.targets() if pressed is not None else []
    return {node for _, node in targets if node in flow.nodes}


def _closure(reached: set[str], edges: Mapping[str, set[str]]) -> set[str]:
    pending = list(reached)
    while pending:
        new = edges[pending.pop()] - reached
        reached |= new
        pending.extend(new)
    return reached
