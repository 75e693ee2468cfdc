"""An agent's flow with its functions bound to one call, each call of a function on the record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from pipecat.flows import Flow

from handlers.context import CallContext
from handlers.registry import HANDLERS
from handlers.route_to_agent import RouteToAgent
from templates.compile import Function, FunctionResult, UnknownFunction, compile_template
from templates.model import HttpFunction, TemplateContent
from voicebot.call.agents import Agent
from voicebot.call.dependencies import HttpBinder
from voicebot.call.tools import tell_nodes
from voicebot.call.transcript.recorder import CallRecorder
from voicebot.call.transcript.transcript import ActiveAgent


@dataclass(frozen=True, slots=True, kw_only=True)
class Functions:
    """Where the functions of one call come from, and where their calls are written down."""

    call: CallContext
    record: CallRecorder
    role: Callable[[], ActiveAgent]
    http: HttpBinder

    def resolve(self, content: TemplateContent, name: str) -> Function:
        """A function by the name that the template gives it.

        Raises:
            UnknownFunction: neither the template nor this server has it.
        """
        if name == RouteToAgent.name:
            return HANDLERS[name].bind(self.call)  # a route has events of its own
        return _on_record(self._find(content, name), self.record, self.role)

    def _find(self, content: TemplateContent, name: str) -> Function:
        for declared in content.functions:
            if isinstance(declared, HttpFunction) and declared.name == name:
                return self.http.bind(declared, content.variables, self.call)
        if name not in HANDLERS:
            raise UnknownFunction(name)
        return HANDLERS[name].bind(self.call)


def compile_agent(agent: Agent, functions: Functions, entered: Callable[[str], None]) -> Flow:
    """Compile the agent's flow for one call; ``entered`` is told of every node it enters.

    Raises:
        UnknownFunction: the template names a function that this server does not have.
    """
    content = agent.content
    routes = content.kind == "orchestrator" or agent.may_return
    extra = [RouteToAgent.name] if routes else []
    flow = compile_template(content, lambda name: functions.resolve(content, name), extra=extra)
    tell_nodes(flow, lambda action, _manager: entered(action["node"]))
    return flow


def _on_record(function: Function, record: CallRecorder, role: Callable[[], ActiveAgent]) -> Function:
    async def run(arguments: Mapping[str, Any]) -> FunctionResult:
        record.event("function.called", role(), name=function.name, arguments=dict(arguments))
        began = perf_counter()
        status = "raised"
        try:
            result = await function.run(arguments)
            status = "failed" if result.failed else "ok"
            return result
        finally:
            duration_ms = round((perf_counter() - began) * 1000)
            record.event(
                "function.returned", role(), name=function.name, status=status, duration_ms=duration_ms
            )

    return replace(function, run=run)
