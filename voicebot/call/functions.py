"""The functions of an agent on one call: bound to the call, recorded, and compiled into the agent's flow.

The description of ``route_to_agent`` lists the agents that can be routed to. It is replaced in the flow and
in the model's tools whenever a target becomes ready or unusable.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any, cast

from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.flows import Flow, FlowsFunctionSchema
from pipecat.frames.frames import LLMSetToolsFrame
from pipecat.processors.aggregators.llm_context import NotGiven

from handlers.cancel_escalation import CancelEscalation
from handlers.context import CallContext
from handlers.park_call import ParkCall
from handlers.registry import HANDLERS
from handlers.route_to_agent import RouteToAgent
from templates.compile import Function, FunctionResult, UnknownFunction, compile_template
from templates.model import HttpFunction, TemplateContent
from templates.values import render
from voicebot.background import BackgroundTasks
from voicebot.call.agents import Agent, AgentPool
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.dependencies import HttpBinder
from voicebot.call.transcript.recorder import CallRecorder

NODE_ENTERED = "voicebot_node_entered"

NODE_SAYS = "voicebot_node_says"

MAX_BRIEF = 1000
"""Maximum number of characters of a function's arguments, or result, for the agent who has the call next."""


def compile_agent(
    agent: Agent,
    call: CallContext,
    http: HttpBinder,
    recorder: CallRecorder,
    on_node: Callable[[str], None],
) -> Flow:
    """Compile an agent's flow for one call.

    Args:
        agent: whose template is compiled.
        call: what its functions may do with the call.
        http: binds its HTTP functions.
        recorder: records the calls of its functions.
        on_node: called with the name of every node that the flow enters.

    Raises:
        UnknownFunction: the template names a function that this server does not have.
    """
    content = agent.content

    def resolve(name: str) -> Function:
        if name == RouteToAgent.name:
            return HANDLERS[name].bind(call)  # the router records its own events
        return _recorded(_find(content, name, call, http), recorder, agent)

    has_routes = content.kind == "orchestrator" or bool(content.routes) or agent.can_return
    extra = [RouteToAgent.name] if has_routes else []
    if agent.offers_people:  # who waits for a person may go on with the agent, or be called back
        extra += [CancelEscalation.name, ParkCall.name]
    flow = compile_template(content, resolve, extra=extra, variables=call)

    def entered(action: Any, _: Any) -> None:
        # pipecat keeps the first handler of a type of action: it may be that of another agent of the call.
        action["agent"].role = action["role"] or action["agent"].role
        on_node(action["node"])

    for name in flow.config.nodes:
        node = flow.node(name)
        action: Any = {
            "type": NODE_ENTERED,
            "handler": entered,
            "node": name,
            "agent": agent,
            "role": node.get("role_message"),
        }
        words = content.flow.nodes[name].say if content.flow is not None else None
        say: Any = {"type": NODE_SAYS, "handler": _say, "words": words, "call": call}
        node["pre_actions"] = [action, *([say] if words else []), *node.get("pre_actions", [])]
    return flow


def offer_routes(agent: Agent) -> None:
    """Update the description of ``route_to_agent`` in every node of an agent's flow."""
    if agent.flow is None or agent.context is None:
        return
    route = RouteToAgent().bind(agent.context)
    for name in agent.flow.config.nodes:
        for schema in cast("list[FlowsFunctionSchema]", agent.flow.node(name).get("functions", [])):
            if schema.name == RouteToAgent.name:
                schema.description = route.description
                schema.properties = dict(route.properties)


class RouteTool:
    """``route_to_agent`` among the model's tools: updates its description, withdraws it, and restores it."""

    def __init__(self, pipeline: CallPipeline, agents: AgentPool, tasks: BackgroundTasks) -> None:
        """Change the tools in the pipeline's context, by the agents that can be routed to."""
        self._pipeline = pipeline
        self._context = pipeline.context
        self._agents = agents
        self._tasks = tasks
        self._withdrawn: FunctionSchema | None = None

    def update(self) -> None:
        """Update the tools in the background."""
        work = self._pipeline.worker.queue_frame(_UpdateToolsFrame(self._tools, self._context.tools))
        self._tasks.start(work, name="updating the tools", droppable=True)

    def _tools(self) -> ToolsSchema | NotGiven:
        agent, tools = self._agents.current, self._context.tools
        if agent.context is None or not isinstance(tools, ToolsSchema):
            return tools
        schemas = list(tools.standard_tools)
        offered = next((schema for schema in schemas if schema.name == RouteToAgent.name), None)
        if not self._agents.offers_routes:
            self._withdrawn = offered or self._withdrawn
            return ToolsSchema(standard_tools=[schema for schema in schemas if schema is not offered])
        if offered is None and self._withdrawn is not None:
            schemas.append(self._withdrawn)
        self._withdrawn = None
        return _with_route(ToolsSchema(standard_tools=schemas), RouteToAgent().bind(agent.context))


class _UpdateToolsFrame(LLMSetToolsFrame):
    """Updates ``route_to_agent``.

    The tools are computed when an aggregator takes the frame, so that they are those of the latest node. Both
    aggregators of a call take it: they also both take the frame that sets the tools of a node, the second one
    later than the first, and would bring back the old description.
    """

    def __init__(self, compute: Callable[[], ToolsSchema | NotGiven], tools: ToolsSchema | NotGiven) -> None:
        self._compute = compute
        super().__init__(tools=tools)
        self.interruptible = False

    @property
    def tools(self) -> ToolsSchema | NotGiven:
        """The tools to set."""
        return self._compute()

    @tools.setter
    def tools(self, _: object) -> None:
        """Ignore the value that the initialiser of the base class sets."""


def _with_route(tools: ToolsSchema, route: Function) -> ToolsSchema:
    return ToolsSchema(
        standard_tools=[
            FunctionSchema(
                name=schema.name,
                description=route.description,
                properties=dict(route.properties),
                required=list(route.required),
                handler=schema.handler,
            )
            if schema.name == RouteToAgent.name
            else schema
            for schema in tools.standard_tools
        ]
    )


def _find(content: TemplateContent, name: str, call: CallContext, http: HttpBinder) -> Function:
    for declared in content.functions:
        if isinstance(declared, HttpFunction) and declared.name == name:
            return http.bind(declared, content.variables, call)
    if name not in HANDLERS:
        raise UnknownFunction(name)
    return HANDLERS[name].bind(call)


def _recorded(function: Function, recorder: CallRecorder, agent: Agent) -> Function:
    async def run(arguments: Mapping[str, Any]) -> FunctionResult:
        recorder.event("function.called", name=function.name, arguments=dict(arguments))
        began = perf_counter()
        status, answer = "raised", None
        try:
            result = await function.run(arguments)
            status, answer = "failed" if result.failed else "ok", result.result
            return result
        finally:
            duration_ms = round((perf_counter() - began) * 1000)
            failure = _failure(answer) if status == "failed" else {}
            recorder.event(
                "function.returned", name=function.name, status=status, duration_ms=duration_ms, **failure
            )
            details = {"arguments": _brief(arguments), "result": _brief(answer)}
            agent.work.append({"function": function.name, "status": status} | details)

    return replace(function, run=run)


def _failure(result: Mapping[str, Any] | None) -> dict[str, Any]:
    """Why a function failed, as its result says it."""
    return {name: (result or {}).get(name) for name in ("code", "message")}


async def _say(action: Any, _: Any) -> None:
    """Speak the fixed words of a node that is entered."""
    call: CallContext = action["call"]
    await call.say(render(action["words"], call.variables()))


def _brief(value: Mapping[str, Any] | None) -> Any:
    """A value for the context of another agent; a large one is cut off."""
    text = json.dumps(dict(value or {}), ensure_ascii=False, default=str)
    return json.loads(text) if len(text) <= MAX_BRIEF else f"{text[:MAX_BRIEF]}…"
