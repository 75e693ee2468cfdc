"""Template and functions → a flow that pipecat can run.

The author's document names functions; the call brings what they do (``Resolver``). Functions of the template
are put into every node, because pipecat's global functions cannot be changed while a call is on. pipecat
publishes a function's parameters from a Python signature, and ours are data: so the schemas are ours, and
only the transition that the document decides is left to the ``Flow``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pipecat.flows import (
    NO_RESPONSE,
    TRANSITION_IN_YAML,
    ContextStrategy,
    ContextStrategyConfig,
    Flow,
    FlowConfig,
    FlowFunctionHandler,
    FlowManager,
    FlowsFunctionSchema,
    NodeConfig,
)

from templates.model import TemplateContent

PROMPT_NODE = "prompt"
"""Name of the only node of a template that has a ``prompt``."""

END_CALL = "end_call"
"""The function that the ``end_conversation`` action of a node calls."""

FLOW_FINISHED = "flow_finished"
"""The reason that ``end_call`` is given by a node's ``end_conversation``."""

_END_ACTION = "end_call (action)"  # no function can have this name


class UnknownFunction(LookupError):
    """The template names a function that this call does not have.

    Saving the template again runs the check on it.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionResult:
    """What a function tells the model.

    Attributes:
        result: JSON for the model.
        respond: whether the model speaks next. False also leaves the node as it is: the function took over.
        failed: the work was not done: a plain ``transition_to`` is not taken, a branch still looks at its
            field.
    """

    result: Mapping[str, Any]
    respond: bool = True
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function as the model sees it, and what runs when it calls it.

    Attributes:
        name: what the model calls.
        description: what the model is told about it.
        properties: JSON Schema of each argument.
        required: names of the arguments that must be given.
        run: gets the model's arguments (not validated) and answers; what it raises is told to the model as an
            error.
        cancel_on_interruption: True stops it when the caller speaks. False lets it run on, at a price:
            pipecat then tells the model about asynchronous tools (694 characters of system prompt while one
            is offered) and lets it talk before the result is there. A function that must not be cut in half
            is better off True with the part that matters in a task of its own.
        timeout_secs: after this pipecat gives up on it; None: pipecat's general limit.
    """

    name: str
    description: str
    properties: Mapping[str, Any]
    required: Sequence[str]
    run: Callable[[Mapping[str, Any]], Awaitable[FunctionResult]]
    cancel_on_interruption: bool = True
    timeout_secs: float | None = None


Resolver = Callable[[str], Function]
"""Function by name; raises ``UnknownFunction``."""


def compile_template(content: TemplateContent, resolve: Resolver, *, extra: Sequence[str] = ()) -> Flow:
    """Make a template's flow.

    Args:
        content: a template without errors (``templates.check``).
        resolve: gives each named function; asked once a name.
        extra: functions offered at every node besides the template's, e.g. ``route_to_agent``.

    Returns:
        A flow without global functions: everything is in its nodes.

    Raises:
        UnknownFunction: from ``resolve``.
        ValueError: the content has neither prompt nor flow, or a flow that pipecat refuses.
    """
    config = FlowConfig.model_validate(
        _replace_end_conversation(_copy_global_functions(flow_document(content)))
    )
    shared_names = dict.fromkeys([*(function.name for function in content.functions), *extra])
    shared = {name: resolve(name) for name in shared_names}
    functions = shared | {name: resolve(name) for name in _functions_named_in(config) if name not in shared}
    handlers: dict[str, Callable[..., Any]] = dict.fromkeys(functions, _return_given_result)
    if any(action.handler == _END_ACTION for node in config.nodes.values() for action in node.post_actions):
        handlers[_END_ACTION] = _end_call_action(functions.get(END_CALL) or resolve(END_CALL))
    flow = Flow(config, handlers=handlers)
    offered = [_schema_without_transition(function) for function in shared.values()]
    for name, node in config.nodes.items():
        compiled = flow.node(name)
        schemas = cast("list[FlowsFunctionSchema]", compiled.get("functions", []))
        own = [
            schema
            if reference.transition_only
            else _schema_with_transition(functions[reference.name], reference, schema, flow)
            for reference, schema in zip(node.functions, schemas, strict=True)
        ]
        taken = {schema.name for schema in own}
        compiled["functions"] = [*own, *(schema for schema in offered if schema.name not in taken)]
    return flow


def entry_node(
    flow: Flow,
    *,
    visited: Sequence[str] = (),
    messages: Sequence[Mapping[str, Any]] = (),
    respond_immediately: bool = True,
) -> NodeConfig:
    """The node to enter an agent by, with the model's memory set anew: its first, or where it had come to.

    Args:
        flow: a compiled template.
        visited: the nodes it had entered, in order, when it goes on at the last of them: in the role that was
            in force there. Those that the flow does not have are left aside.
        messages: the conversation so far as ``{"role", "content"}``, contents escaped with
            ``values.literal``.
        respond_immediately: False when a greeting is spoken in place of the model's first words.

    Returns:
        A copy; the flow's own node, to which its transitions may lead back, is unchanged.
    """
    nodes = [flow.node(name) for name in visited if name in flow.config.nodes] or [flow.initial_node]
    node = cast(NodeConfig, dict(nodes[-1]))
    if roles := [role for visited_node in nodes if (role := visited_node.get("role_message"))]:
        node["role_message"] = roles[-1]
    node["context_strategy"] = ContextStrategyConfig(strategy=ContextStrategy.RESET)
    node["task_messages"] = [*(dict(message) for message in messages), *node["task_messages"]]
    node["respond_immediately"] = respond_immediately and node.get("respond_immediately", True)
    return node


def flow_document(content: TemplateContent) -> dict[str, Any]:
    """The conversation as pipecat's ``FlowConfig`` reads it: the flow, or the prompt as one node."""
    if content.flow is not None:
        return content.flow.to_config_document()
    if content.prompt is not None:
        node = {"role_message": content.prompt, "task_messages": []}
        return {"initial_node": PROMPT_NODE, "nodes": {PROMPT_NODE: node}}
    raise ValueError("a template needs a prompt or a flow before it can run")


def _copy_global_functions(document: dict[str, Any]) -> dict[str, Any]:
    """Move the flow's global functions into each node."""
    shared = document.pop("global_functions", [])
    for node in document["nodes"].values():
        node["functions"] = [*node.get("functions", []), *shared]
    return document


def _replace_end_conversation(document: dict[str, Any]) -> dict[str, Any]:
    """Make every ``end_conversation`` our end of the call."""
    for node in document["nodes"].values():
        node["post_actions"] = [
            {"type": END_CALL, "handler": _END_ACTION} if action["type"] == "end_conversation" else action
            for action in node.get("post_actions", [])
        ]
    return document


def _functions_named_in(config: FlowConfig) -> list[str]:
    """Names of the functions that nodes name and that need code, each once, in order."""
    references = (function for node in config.nodes.values() for function in node.functions)
    return list(dict.fromkeys(function.name for function in references if not function.transition_only))


def _schema_without_transition(function: Function) -> FlowsFunctionSchema:
    """A function that stays at the node it is called from."""

    async def handler(args: dict[str, Any], flow_manager: FlowManager) -> Any:
        outcome = await function.run(args)
        return _result_for_model(outcome), None if outcome.respond else NO_RESPONSE

    return _schema(function, handler)


def _result_for_model(outcome: FunctionResult) -> dict[str, Any]:
    """The result for the model, never empty: pipecat does not let the model go on after an empty one."""
    return dict(outcome.result) or {"status": "done"}


def _schema(function: Function, handler: FlowFunctionHandler) -> FlowsFunctionSchema:
    return FlowsFunctionSchema(
        name=function.name,
        description=function.description,
        properties=dict(function.properties),
        required=list(function.required),
        handler=handler,
        cancel_on_interruption=function.cancel_on_interruption,
        timeout_secs=function.timeout_secs,
    )


async def _return_given_result(flow_manager: FlowManager, result: Any) -> tuple[Any, Any]:
    """Stands for every function where pipecat joins names to code: the result is there already."""
    return result, TRANSITION_IN_YAML


def _schema_with_transition(
    function: Function, reference: FlowConfig.Function, schema: FlowsFunctionSchema, flow: Flow
) -> FlowsFunctionSchema:
    """A function with a transition: ours runs first, then pipecat looks where the document leads."""
    transition = cast("Callable[[dict[str, Any], FlowManager], Awaitable[Any]]", schema.handler)
    branch = reference.transition_to if isinstance(reference.transition_to, FlowConfig.Branch) else None

    async def handler(args: dict[str, Any], flow_manager: FlowManager) -> Any:
        outcome = await function.run(args)
        result = _result_for_model(outcome)
        if not outcome.respond:
            return result, NO_RESPONSE
        if branch is not None and branch.field not in result:
            # pipecat would turn this into an error and lose the result of work already done.
            leads = branch.default is not None and not outcome.failed
            return result, flow.node(cast(str, branch.default)) if leads else None
        if branch is None and outcome.failed:
            return result, None
        return await transition({"result": result}, flow_manager)

    return _schema(function, handler)


def _end_call_action(end_call: Function) -> Callable[[dict[str, Any], FlowManager], Awaitable[None]]:
    """The action that ends the call once the node's answer has left the pipeline.

    It runs while the node is being entered, inside the pipeline, so it must not wait there: pipecat's own
    ``function`` action does, and hangs for good when the caller interrupts (pipecat issue 5263).
    """
    running: set[asyncio.Task[None]] = set()

    async def end_after_flush(flow_manager: FlowManager) -> None:
        await flow_manager.worker.flush_pipeline()
        await end_call.run({"reason": FLOW_FINISHED})

    async def action(config: dict[str, Any], flow_manager: FlowManager) -> None:
        task = asyncio.create_task(end_after_flush(flow_manager), name="end_call after the flow's last node")
        running.add(task)
        task.add_done_callback(running.discard)

    return action
