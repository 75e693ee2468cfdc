"""An agent's flow with its functions bound to one call, each call of a function on the record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any

from pipecat.flows import Flow

from handlers.context import CallContext
from handlers.registry import HANDLERS
from handlers.route_to_agent import RouteToAgent
from templates.compile import Function, FunctionResult, UnknownFunction, compile_template
from voicebot.call.agent import Agent
from voicebot.call.record import Record
from voicebot.call.tools import tell_nodes
from voicebot.call.transcript import Role


def compile_agent(
    agent: Agent,
    call: CallContext,
    record: Record,
    role: Callable[[], Role],
    entered: Callable[[str], None],
) -> Flow:
    """Compile the agent's flow for one call; ``entered`` is told of every node it enters.

    Raises:
        UnknownFunction: the template names a function that this server does not have.
    """

    def resolve(name: str) -> Function:
        handler = HANDLERS.get(name)
        if handler is None:
            raise UnknownFunction(name)
        function = handler.bind(call)
        # A route has events of its own.
        return function if name == RouteToAgent.name else _on_record(function, record, role)

    routes = agent.content.kind == "orchestrator" or agent.may_return
    flow = compile_template(agent.content, resolve, extra=[RouteToAgent.name] if routes else [])
    tell_nodes(flow, lambda action, _manager: entered(action["node"]))
    return flow


def _on_record(function: Function, record: Record, role: Callable[[], Role]) -> Function:
    async def run(arguments: Mapping[str, Any]) -> FunctionResult:
        record.event("function.called", role(), name=function.name, arguments=dict(arguments))
        began = perf_counter()
        status = "raised"
        try:
            result = await function.run(arguments)
            status = str(result.result.get("status", "ok"))
            return result
        finally:
            duration_ms = round((perf_counter() - began) * 1000)
            record.event(
                "function.returned", role(), name=function.name, status=status, duration_ms=duration_ms
            )

    return replace(function, run=run)
