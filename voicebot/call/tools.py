"""The functions of one agent on one call, and the routing table that changes while agents become ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.flows import Flow, FlowsFunctionSchema
from pipecat.processors.aggregators.llm_context import LLMContext

from handlers.route_to_agent import RouteToAgent
from templates.compile import Function

NODE_ENTERED = "voicebot_node_entered"


def tell_nodes(flow: Flow, entered: Callable[[dict[str, Any], Any], None]) -> None:
    """Have ``entered`` called with ``{"node": name}`` whenever pipecat enters a node of the flow."""
    for name in flow.config.nodes:
        node = flow.node(name)
        action: Any = {"type": NODE_ENTERED, "handler": entered, "node": name}
        node["pre_actions"] = [action, *node.get("pre_actions", [])]


def offer_routes(flow: Flow, route: Function) -> None:
    """Put the present routing table into every node of a flow that offers routes."""
    for name in flow.config.nodes:
        for schema in cast("list[FlowsFunctionSchema]", flow.node(name).get("functions", [])):
            if schema.name == RouteToAgent.name:
                schema.description = route.description
                schema.properties = dict(route.properties)


def tools_with(context: LLMContext, route: Function) -> ToolsSchema | None:
    """The tools offered now with the present routing table; None when routes are not among them."""
    tools = context.tools
    if not isinstance(tools, ToolsSchema):
        return None
    schemas = tools.standard_tools
    if RouteToAgent.name not in {schema.name for schema in schemas}:
        return None
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
            for schema in schemas
        ]
    )
