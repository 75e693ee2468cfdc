"""An author's flow: the document that pipecat's ``FlowConfig`` reads, in a shape that a draft can have too.

``FlowConfig`` refuses a whole flow at its first fault (a transition to a node not yet written) and describes
its fields for programmers. Authors save half a flow and need every fault with its pointer, so the shape is
declared here again with descriptions for them, the faults are found by ``templates.check``, and
``templates.compile`` hands the finished document to pipecat. It is no dialect: a test holds both schemas
to the same fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Strict, Tag

Flag = Annotated[bool, Strict()]
"""A JSON boolean: "yes" or 1 is refused rather than guessed at."""


NodeReference = tuple[tuple[str, ...], str]
"""Where a node is named inside a function or a branch, and its name."""


class FlowPart(BaseModel):
    """What every part of a flow has in common: no unknown fields, and nobody changes it once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Message(FlowPart):
    """One instruction of a node."""

    role: str = Field(
        default="developer",
        description="Who speaks: `developer` for instructions (usual), or `system`, `user`, `assistant`.",
        examples=["developer"],
    )
    content: str = Field(
        description="What the model should do at this node. `{{ name }}` inserts a variable.",
        examples=["Ask {{ customer_name }} for the order number, then call find_order."],
    )


class Branch(FlowPart):
    """A transition that depends on a field of the function's result."""

    field: str = Field(description="Key of the function's result to look at.", examples=["status"])
    cases: dict[str, str] = Field(
        description="Value of that field → name of the node to go to.",
        examples=[{"found": "confirm", "not_found": "ask_again"}],
    )
    default: str | None = Field(
        default=None, description="Node for any other value. Left out: the conversation stays where it is."
    )

    def targets(self) -> list[NodeReference]:
        """Every node named, each with the path of its mention."""
        found: list[NodeReference] = [(("cases", value), node) for value, node in self.cases.items()]
        return [*found, (("default",), self.default)] if self.default is not None else found


def _transition_kind(value: Any) -> str:
    return "branch" if isinstance(value, Mapping | Branch) else "node"


Transition = Annotated[
    Annotated[str, Tag("node")] | Annotated[Branch, Tag("branch")], Discriminator(_transition_kind)
]
"""A node's name, or a branch, told apart first: a fault in a branch is not also that it is no text."""


class FlowFunction(FlowPart):
    """A function that the model may call at a node."""

    name: str = Field(
        description=(
            "One of the template's `functions`, a built-in function, or (with `transition_only`) a new name."
        ),
        examples=["find_order"],
    )
    transition_only: Flag = Field(
        default=False, description="True: the function does nothing but lead to the node in `transition_to`."
    )
    description: str | None = Field(
        default=None,
        description=(
            "When the model should call it. Only for `transition_only`; other functions describe themselves."
        ),
        examples=["The caller wants to change the delivery address."],
    )
    transition_to: Transition | None = Field(
        default=None, description="The node to go to afterwards, or a branch on a field of the result."
    )

    def targets(self) -> list[NodeReference]:
        """Every node it can lead to, each with the path of its mention inside the function."""
        if self.transition_to is None:
            return []
        if isinstance(self.transition_to, str):
            return [(("transition_to",), self.transition_to)]
        return [(("transition_to", *path), node) for path, node in self.transition_to.targets()]


class Action(BaseModel):
    """Something done on entering a node. Only `end_conversation` is allowed, as a post action."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str = Field(
        description="`end_conversation` ends the call when the node's words have been heard.",
        examples=["end_conversation"],
    )
    handler: str | None = Field(default=None, description="Not available to templates; leave it out.")

    def options(self) -> list[str]:
        """What was written besides the type."""
        return [*(["handler"] if self.handler is not None else []), *(self.model_extra or {})]


class Node(FlowPart):
    """One step of the conversation."""

    role_message: str | None = Field(
        default=None,
        description=(
            "Who the agent is. It holds from here on until another node says otherwise; the first node "
            "needs one."
        ),
        examples=["You are the friendly billing agent of Acme. You speak in short sentences."],
    )
    task_messages: tuple[Message, ...] = Field(
        default=(),
        description="What the model should do at this node.",
        examples=[[{"role": "developer", "content": "…"}]],
    )
    functions: tuple[FlowFunction, ...] = Field(
        default=(),
        description=(
            "Functions of this node only. The template's `functions` are offered at every node anyway."
        ),
    )
    pre_actions: tuple[Action, ...] = Field(
        default=(), description="Not available to templates; leave it empty."
    )
    post_actions: tuple[Action, ...] = Field(
        default=(),
        description="`end_conversation` here ends the call after the node's answer.",
        examples=[[{"type": "end_conversation"}]],
    )
    context_strategy: Literal["append", "reset"] | None = Field(
        default=None,
        description="`reset` makes the model forget what was said before this node; default `append`.",
    )
    respond_immediately: Flag = Field(
        default=True, description="False: the agent waits for the caller to speak first at this node."
    )


class FlowDocument(FlowPart):
    """A conversation in several steps: pipecat's FlowConfig, as JSON."""

    initial_node: str = Field(description="Name of the node the conversation begins at.", examples=["greet"])
    nodes: dict[str, Node] = Field(description="The steps, by name.")
    global_functions: tuple[FlowFunction, ...] = Field(
        default=(), description="Functions offered at every node, with their transitions."
    )

    def to_config_document(self) -> dict[str, Any]:
        """The document as ``pipecat.flows.FlowConfig`` reads it."""
        return self.model_dump(mode="json", exclude_none=True)
