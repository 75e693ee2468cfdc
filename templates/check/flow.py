"""Rules about a flow: nodes, the functions they name, where these lead, what is done on entering."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from templates.bounds import TOOL_NAME
from templates.check.context import CheckContext
from templates.check.rules import broken
from templates.flow import Action, FlowDocument, FlowFunction, Node
from templates.functions import HttpFunction
from templates.model import TemplateContent
from templates.problem import Problem

Path = tuple[str | int, ...]

_ROLES = frozenset({"developer", "system", "user", "assistant"})
_LEAVING = frozenset({"route_to_agent", "end_call", "transfer_to_number"})
_BETTER = {
    "tts_say": "Use the template's `greeting`, a task message, or the `wait_text` of an HTTP function.",
    "function": "Name an HTTP function or a built-in one in `functions`.",
}
_CUSTOM = "Actions run code, and a template brings none: use `functions`."


def check_flow(content: TemplateContent, around: CheckContext) -> Iterator[Problem]:
    """The whole flow, if there is one."""
    flow = content.flow
    if flow is None:
        return
    if not flow.nodes:
        yield broken("flow_empty", ("flow", "nodes"), "The flow has no nodes.")
        return
    known = around.builtins | {function.name for function in content.functions}
    declared = {function.name for function in content.functions if isinstance(function, HttpFunction)}
    shared = {function.name for function in flow.global_functions}
    yield from _functions(("flow", "global_functions"), flow.global_functions, flow, known, declared)
    for name, node in flow.nodes.items():
        where = ("flow", "nodes", name)
        yield from _node(where, name, node)
        yield from _functions((*where, "functions"), node.functions, flow, known, declared, shared)
        yield from _actions(where, node)
    yield from _entry(flow)
    yield from _reachability(flow)


def _entry(flow: FlowDocument) -> Iterator[Problem]:
    entry = flow.nodes.get(flow.initial_node)
    if entry is None:
        message = f"The flow has no node '{flow.initial_node}'."
        yield broken("initial_node_unknown", ("flow", "initial_node"), message)
    elif not (entry.role_message or "").strip():
        message = (
            "The first node does not say who the agent is; after a route it would go on as the one before."
        )
        yield broken("role_message_missing", ("flow", "nodes", flow.initial_node, "role_message"), message)


def _node(where: Path, name: str, node: Node) -> Iterator[Problem]:
    if not name.strip():
        yield broken("node_name_empty", where, "A node has an empty name.")
    if (
        not any(message.content.strip() for message in node.task_messages)
        and not (node.role_message or "").strip()
    ):
        yield broken("node_silent", (*where, "task_messages"), f"Node '{name}' tells the model nothing.")
    for index, message in enumerate(node.task_messages):
        if message.role not in _ROLES:
            place = (*where, "task_messages", index, "role")
            yield broken("message_role_invalid", place, f"'{message.role}' is not a role of a message here.")


def _functions(
    where: Path,
    functions: Iterable[FlowFunction],
    flow: FlowDocument,
    known: frozenset[str] | set[str],
    declared: set[str],
    taken: Iterable[str] = (),
) -> Iterator[Problem]:
    seen = set(taken)
    for index, function in enumerate(functions):
        place = (*where, index)
        if function.name in seen:
            yield broken("function_duplicate", (*place, "name"), f"'{function.name}' is offered twice here.")
        seen.add(function.name)
        if function.transition_only:
            yield from _transition_only(place, function, known)
        else:
            yield from _named(place, function, known)
        yield from _transitions(place, function, flow)


def _transition_only(
    where: Path, function: FlowFunction, known: frozenset[str] | set[str]
) -> Iterator[Problem]:
    if not TOOL_NAME.fits(function.name):
        yield broken(
            "function_name_invalid", (*where, "name"), f"'{function.name}' is not a name a model can call."
        )
    elif function.name in known:
        message = f"'{function.name}' is also a function of the template or a built-in one."
        yield broken("function_shadowed", (*where, "name"), message)
    if not (function.description or "").strip():
        message = f"The model is not told when to take '{function.name}'."
        yield broken("transition_only_undescribed", (*where, "description"), message)
    if not isinstance(function.transition_to, str):
        message = f"'{function.name}' does nothing but lead to a node, and names none."
        yield broken("transition_only_target", (*where, "transition_to"), message)


def _named(where: Path, function: FlowFunction, known: frozenset[str] | set[str]) -> Iterator[Problem]:
    if function.name not in known:
        message = f"There is no function '{function.name}' in the template, nor a built-in one."
        yield broken("function_unknown", (*where, "name"), message)
    if function.description is not None:
        message = (
            f"'{function.name}' describes itself; only a `transition_only` function has a description here."
        )
        yield broken("function_description_refused", (*where, "description"), message)
    if function.name in _LEAVING and function.transition_to is not None:
        message = f"After '{function.name}' the conversation does not go on in this flow."
        yield broken("transition_never_taken", (*where, "transition_to"), message)


def _transitions(where: Path, function: FlowFunction, flow: FlowDocument) -> Iterator[Problem]:
    for path, node in function.targets():
        if node not in flow.nodes:
            message = f"'{function.name}' leads to '{node}', which is not a node of the flow."
            yield broken("transition_unknown_node", (*where, *path), message)
    branch = function.transition_to
    if branch is not None and not isinstance(branch, str) and not branch.cases:
        yield broken("branch_empty", (*where, "transition_to", "cases"), "The branch has no cases.")


def _actions(where: Path, node: Node) -> Iterator[Problem]:
    for index, action in enumerate(node.pre_actions):
        place = (*where, "pre_actions", index, "type")
        if action.type == "end_conversation":
            yield broken(
                "action_end_early", place, "The call would end before the agent has said anything here."
            )
        else:
            yield _refused(place, action)
    for index, action in enumerate(node.post_actions):
        if action.type != "end_conversation":
            yield _refused((*where, "post_actions", index, "type"), action)
            continue
        for option in action.options():
            place = (*where, "post_actions", index, option)
            yield broken("action_option_refused", place, f"`end_conversation` takes no '{option}' here.")


def _refused(where: Path, action: Action) -> Problem:
    message = f"The action '{action.type}' is not available to templates."
    return broken("action_refused", where, message, better=_BETTER.get(action.type, _CUSTOM))


def _reachability(flow: FlowDocument) -> Iterator[Problem]:
    if flow.initial_node not in flow.nodes:
        return
    reached = reachable(flow, flow.initial_node)
    for name in flow.nodes:
        if name not in reached:
            yield broken("node_unreachable", ("flow", "nodes", name), f"Nothing leads to node '{name}'.")


def reachable(flow: FlowDocument, start: str) -> set[str]:
    """Nodes that a conversation at ``start`` can come to, itself included."""
    return _spread({start}, {name: _leads_to(flow, name) for name in flow.nodes})


def leading_to(flow: FlowDocument, ends: set[str]) -> set[str]:
    """Nodes from which a conversation can come to one of ``ends``, these included."""
    back: dict[str, set[str]] = {name: set() for name in flow.nodes}
    for name in flow.nodes:
        for node in _leads_to(flow, name):
            back[node].add(name)
    return _spread(set(ends), back)


def _leads_to(flow: FlowDocument, name: str) -> set[str]:
    functions = (*flow.global_functions, *flow.nodes[name].functions)
    return {node for function in functions for _, node in function.targets() if node in flow.nodes}


def _spread(reached: set[str], edges: Mapping[str, set[str]]) -> set[str]:
    waiting = list(reached)
    while waiting:
        new = edges[waiting.pop()] - reached
        reached |= new
        waiting.extend(new)
    return reached
