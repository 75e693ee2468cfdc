"""``route_to_agent``: the call changes its agent."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from handlers.context import CallContext, Refused
from handlers.handler import Arguments, Handler
from templates.compile import FunctionResult

NO_AGENTS = (
    "No agent can be reached now: if the caller needs one, say so, and offer what you can do yourself."
)

AGENTS_IN_PREPARATION = (
    "The agents are being called and can be named in a moment: first find out what the caller needs."
)


class RouteArguments(Arguments):
    """Arguments of ``route_to_agent``."""

    agent: str = Field(
        description="The name of the agent who takes over.", min_length=1, max_length=64, examples=["billing"]
    )
    reason: str = Field(
        "",
        description="What the caller wants, in a few words of theirs.",
        min_length=0,
        max_length=500,
        examples=["a question about an invoice"],
    )
    variables: dict[str, Any] = Field(
        default_factory=dict,
        description="What the next agent should know, by its variables' names.",
        examples=[{"customer_number": "10023004"}],
    )


class RouteToAgent(Handler[RouteArguments]):
    """Routes the call to another agent. The description contains the routing table."""

    name: ClassVar[str] = "route_to_agent"
    description: ClassVar[str] = (
        "Hand the caller over to another agent, who takes the call at once. Call it as soon as it is clear "
        "whom the caller needs. Do not announce it and do not say goodbye."
    )
    arguments = RouteArguments

    def describe(self, call: CallContext) -> str:
        """The description followed by the routing table, one line ``name: when`` for each agent."""
        agents = call.destinations()
        if not agents:
            return f"{self.description}\n{AGENTS_IN_PREPARATION if call.agents_are_coming() else NO_AGENTS}"
        table = "\n".join(f"{agent.name}: {agent.when}" for agent in agents)
        return f"{self.description}\nAgents:\n{table}"

    def properties(self, call: CallContext) -> dict[str, Any]:
        """The arguments, with ``agent`` limited to the agents that can take the call now."""
        properties = super().properties(call)
        if names := [agent.name for agent in call.destinations()]:
            properties["agent"]["enum"] = names
        return properties

    async def run(self, call: CallContext, arguments: RouteArguments) -> FunctionResult:
        """Route the call, or return the refusal to the model, which may choose another agent."""
        answer = await call.route(arguments.agent, reason=arguments.reason, variables=arguments.variables)
        if isinstance(answer, Refused):
            return FunctionResult(
                result={"status": "refused", "code": answer.code, "message": answer.message}
            )
        return FunctionResult(result={"status": "routed"}, respond=False)
