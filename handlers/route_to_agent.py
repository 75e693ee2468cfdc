"""``route_to_agent``: the call changes agent in the middle of the conversation."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from handlers.context import CallContext, Refused
from handlers.handler import Arguments, Handler
from templates.compile import FunctionResult

NOBODY = "No agent can be reached now: if the caller needs one, say so, and offer what you can do yourself."

COMING = "The agents are being called and can be named in a moment: first find out what the caller needs."


class RouteArguments(Arguments):
    """Where to, and why."""

    agent: str = Field(description="The name of the agent who takes over.", min_length=1, max_length=64)
    reason: str = Field(
        "", description="What the caller wants, in a few words of theirs.", min_length=0, max_length=500
    )
    variables: dict[str, Any] = Field(
        default_factory=dict, description="What the next agent should know, by its variables' names."
    )


class RouteToAgent(Handler[RouteArguments]):
    """Hands the call to another agent; the routing table is part of what the model reads."""

    name: ClassVar[str] = "route_to_agent"
    description: ClassVar[str] = (
        "Hand the caller over to another agent, who takes the call at once. Call it as soon as it is clear "
        "whom the caller needs. Do not announce it and do not say goodbye."
    )
    arguments = RouteArguments

    def describe(self, call: CallContext) -> str:
        """The instruction followed by the routing table, one ``name: when`` a line."""
        agents = call.destinations()
        if not agents:
            return f"{self.description}\n{COMING if call.agents_are_coming() else NOBODY}"
        table = "\n".join(f"{agent.name}: {agent.when}" for agent in agents)
        return f"{self.description}\nAgents:\n{table}"

    def properties(self, call: CallContext) -> dict[str, Any]:
        """The arguments, ``agent`` restricted to those who can take the call now."""
        properties = super().properties(call)
        if names := [agent.name for agent in call.destinations()]:
            properties["agent"]["enum"] = names
        return properties

    async def run(self, call: CallContext, arguments: RouteArguments) -> FunctionResult:
        """Ask the call to route; a refusal goes back to the model, which may choose again."""
        answer = await call.route(arguments.agent, reason=arguments.reason, variables=arguments.variables)
        if isinstance(answer, Refused):
            return FunctionResult(
                result={"status": "refused", "code": answer.code, "message": answer.message}
            )
        return FunctionResult(result={"status": "routed"}, respond=False)
