"""``route_to_agent``: the call changes its agent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from handlers.context import CallContext, Destination, Refused
from handlers.handler import Arguments, Handler
from templates.compile import FunctionResult
from templates.model import Variable
from templates.provision import is_needed
from templates.values import schema_of

NO_AGENTS = (
    "No agent can be reached now: if the caller needs one, say so, and offer what you can do yourself."
)

AGENTS_IN_PREPARATION = (
    "The agents are being called and can be named in a moment: first find out what the caller needs."
)

VARIABLES_NEEDED = (
    "An agent is given its variables in `variables`. Ask the caller for the required ones that you do not "
    "know before you call this function; never make up a value."
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
        """The description and the routing table.

        The table has a line ``name: when`` for each agent, and indented lines with what the agent does and
        the variables that it takes.
        """
        agents = call.destinations()
        if not agents:
            return f"{self.description}\n{AGENTS_IN_PREPARATION if call.agents_are_coming() else NO_AGENTS}"
        parts = [self.description]
        if any(agent.variables for agent in agents):
            parts.append(VARIABLES_NEEDED)
        return "\n".join([*parts, "Agents:", *(line for agent in agents for line in _table_lines(agent))])

    def properties(self, call: CallContext) -> dict[str, Any]:
        """The arguments: ``agent`` limited to the agents that can take the call, ``variables`` to theirs."""
        properties = super().properties(call)
        destinations = call.destinations()
        if destinations:
            properties["agent"]["enum"] = [agent.name for agent in destinations]
        properties["variables"] = {
            "type": "object",
            "description": properties["variables"]["description"],
            **_variables_schema(destinations),
        }
        return properties

    async def run(self, call: CallContext, arguments: RouteArguments) -> FunctionResult:
        """Route the call, or return the refusal to the model, which may choose another agent."""
        answer = await call.route(arguments.agent, reason=arguments.reason, variables=arguments.variables)
        if isinstance(answer, Refused):
            return FunctionResult(
                result={"status": "refused", "code": answer.code, "message": answer.message}
            )
        return FunctionResult(result={"status": "routed"}, respond=False)


def _table_lines(agent: Destination) -> list[str]:
    lines = [f"{agent.name}: {agent.when}"]
    if agent.description:
        lines.append(f"  does: {_one_line(agent.description)}")
    for variable in agent.variables:
        needed = "required" if is_needed(variable) else "optional"
        about = f": {_one_line(variable.description)}" if variable.description else ""
        lines.append(f"  takes {variable.name} ({variable.type}, {needed}){about}")
    return lines


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _variables_schema(agents: Sequence[Destination]) -> dict[str, Any]:
    """The members of ``variables``: every variable that an agent takes, with its type and who needs it.

    One JSON Schema cannot say that a variable is required for one agent and not for another without
    alternatives, which models fill in worse; only what every agent requires is ``required`` in it.
    """
    takers: defaultdict[str, list[tuple[Destination, Variable]]] = defaultdict(list)
    for agent in agents:
        for variable in agent.variables:
            takers[variable.name].append((agent, variable))
    schema: dict[str, Any] = {
        "properties": {name: _variable_schema(taken) for name, taken in takers.items()},
        "additionalProperties": False,
    }
    required = [
        name
        for name, taken in takers.items()
        if len(taken) == len(agents) and all(is_needed(variable) for _, variable in taken)
    ]
    return schema | ({"required": required} if required else {})


def _variable_schema(taken: Sequence[tuple[Destination, Variable]]) -> Mapping[str, Any]:
    types = [schema_of(variable) for _, variable in taken]
    schema = types[0] if all(each == types[0] for each in types) else {"anyOf": types}
    required = ", ".join(agent.name for agent, variable in taken if is_needed(variable))
    optional = ", ".join(agent.name for agent, variable in taken if not is_needed(variable))
    parts = [
        *dict.fromkeys(_one_line(variable.description) for _, variable in taken if variable.description),
        f"Required for: {required}." if required else "",
        f"Optional for: {optional}." if optional else "",
    ]
    return {**schema, "description": " ".join(_sentence(part) for part in parts if part)}


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
