"""Models of a flow: the document of pipecat's ``FlowConfig``, in a form that a draft can have.

``FlowConfig`` refuses a flow at its first problem and describes its fields for programmers. Authors save
incomplete flows and need every problem with its pointer. Therefore the fields are declared again here, with
descriptions for authors; ``templates.check`` finds the problems, and ``templates.compile`` passes the
finished document to pipecat. A test checks that both models have the same fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Strict, Tag

from templates.bounds import Bounds, Count

Flag = Annotated[bool, Strict()]
"""A JSON boolean: "yes" and 1 are refused."""


NodeReference = tuple[tuple[str, ...], str]
"""Path of a node name inside a function or a branch, and the name."""


class FlowPart(BaseModel):
    """Base of the parts of a flow: immutable, unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Message(FlowPart):
    """One instruction of a node."""

    role: str = Field(
        default="developer",
        description="Role of the message: `developer` (for instructions), `system`, `user` or `assistant`.",
        examples=["developer"],
    )
    content: str = Field(
        description="What the model should do at this node. `{{ name }}` inserts a variable.",
        examples=["Ask {{ customer_name }} for the order number, then call find_order."],
    )


class Branch(FlowPart):
    """A transition that depends on a field of the function's result."""

    field: str = Field(
        description="Key of the function's result that decides the transition.", examples=["status"]
    )
    cases: dict[str, str] = Field(
        description="Value of that field → name of the node to go to.",
        examples=[{"found": "confirm", "not_found": "ask_again"}],
    )
    default: str | None = Field(
        default=None,
        description="Name of the node for any other value. Null: the conversation stays at its node.",
        examples=["ask_again"],
    )

    def targets(self) -> list[NodeReference]:
        """All node names in the branch, with their paths."""
        found: list[NodeReference] = [(("cases", value), node) for value, node in self.cases.items()]
        return [*found, (("default",), self.default)] if self.default is not None else found


Operator = Literal[
    "equals",
    "not_equals",
    "greater_than",
    "at_least",
    "less_than",
    "at_most",
    "contains",
    "is_set",
    "is_not_set",
]


class Condition(FlowPart):
    """One edge of a transition, taken if a variable has a value."""

    variable: str = Field(description="Name of a variable of the template.", examples=["amount"])
    operator: Operator = Field(
        default="equals",
        description="How the variable is compared with `value`; `is_set` and `is_not_set` need none.",
    )
    value: Any = Field(default=None, description="What the variable is compared with.", examples=[100])
    to: str = Field(description="Name of the node to go to.", examples=["ask_manager"])


class ConditionalTransition(FlowPart):
    """A transition that depends on variables, decided without the model: the first fitting edge."""

    conditions: tuple[Condition, ...] = Field(description="The edges, in the order in which they are tried.")
    default: str | None = Field(
        default=None,
        description="Name of the node if no edge fits. Null: the conversation stays at its node.",
        examples=["confirm"],
    )

    def targets(self) -> list[NodeReference]:
        """All node names in the edges, with their paths."""
        found: list[NodeReference] = [
            (("conditions", str(index), "to"), each.to) for index, each in enumerate(self.conditions)
        ]
        return [*found, (("default",), self.default)] if self.default is not None else found


def _transition_kind(value: Any) -> str:
    if isinstance(value, ConditionalTransition) or (isinstance(value, Mapping) and "conditions" in value):
        return "conditions"
    return "branch" if isinstance(value, Mapping | Branch) else "node"


Transition = Annotated[
    Annotated[str, Tag("node")]
    | Annotated[Branch, Tag("branch")]
    | Annotated[ConditionalTransition, Tag("conditions")],
    Discriminator(_transition_kind),
]
"""A node's name, a branch or conditions. The tag is decided first, so that a problem is reported once."""


NodeOrConditions = Annotated[
    Annotated[str, Tag("node")] | Annotated[ConditionalTransition, Tag("conditions")],
    Discriminator(lambda value: "node" if isinstance(value, str) else "conditions"),
]
"""A node's name or conditions."""


class FlowFunction(FlowPart):
    """A function that the model may call at a node."""

    name: str = Field(
        description=(
            "Name of one of the template's `functions`, of a built-in function, or (with `transition_only`) "
            "a new name."
        ),
        examples=["find_order"],
    )
    transition_only: Flag = Field(
        default=False,
        description="True: the function does nothing except the transition to `transition_to`.",
        examples=[True],
    )
    description: str | None = Field(
        default=None,
        description=(
            "When the model should call it. Only for `transition_only`; other functions have a description "
            "already."
        ),
        examples=["The caller wants to change the delivery address."],
    )
    transition_to: Transition | None = Field(
        default=None,
        description=("Name of the next node, a branch on a field of the result, or conditions on variables."),
        examples=["confirm"],
    )
    parameters: tuple[str, ...] = Field(
        default=(),
        description=(
            "Variables (with source `call`) that the model provides with a `transition_only` function. They "
            "are validated by their types and kept. Without a default, a variable is required."
        ),
        examples=[["delivery_day"]],
    )

    def targets(self) -> list[NodeReference]:
        """All nodes to which the function can lead, with the paths of their names inside the function."""
        if self.transition_to is None:
            return []
        if isinstance(self.transition_to, str):
            return [(("transition_to",), self.transition_to)]
        return [(("transition_to", *path), node) for path, node in self.transition_to.targets()]


class DtmfInput(FlowPart):
    """Input by the keys of the telephone (DTMF).

    It ends with the last of ``max_digits``, with the terminator, or when no key follows for ``timeout_ms``.
    """

    max_digits: Annotated[Count, Bounds(1, 32)] = Field(
        default=1, description="How many keys end the input.", examples=[8]
    )
    terminator: Literal["#", "*"] | None = Field(
        default="#",
        description="The key that ends the input and is no part of it. Null: every key is part of it.",
    )
    timeout_ms: Annotated[Count, Bounds(500, 30_000)] = Field(
        default=3000, description="How long after a key the input ends if no other one follows, in ms."
    )
    variable: str | None = Field(
        default=None,
        description=(
            "Variable (with source `call`) that takes the input; it is validated by the variable's type and "
            "kept. A variable of type `string` keeps zeros at the beginning."
        ),
        examples=["customer_number"],
    )
    transition_to: NodeOrConditions | None = Field(
        default=None,
        description=(
            "Name of the next node, or conditions on variables, decided without the model. Null: the "
            "conversation stays, and the model answers what was pressed."
        ),
        examples=["check_number"],
    )
    masked: Flag = Field(
        default=False,
        description=(
            "True: neither the model nor any record of the call is given the keys, only how many they were; "
            "HTTP functions may insert the variable."
        ),
    )

    def targets(self) -> list[NodeReference]:
        """All nodes to which the input can lead, with the paths of their names inside the input."""
        if isinstance(self.transition_to, ConditionalTransition):
            return [(("transition_to", *path), node) for path, node in self.transition_to.targets()]
        return [(("transition_to",), self.transition_to)] if self.transition_to is not None else []


class Action(BaseModel):
    """An action on entering a node. Only `end_conversation` in `post_actions` is allowed."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str = Field(
        description="`end_conversation`: the call ends when the node's answer has been played.",
        examples=["end_conversation"],
    )
    handler: str | None = Field(
        default=None, description="Not available in templates; must be null.", examples=[None]
    )

    def options(self) -> list[str]:
        """Names of the fields that are set in addition to the type."""
        return [*(["handler"] if self.handler is not None else []), *(self.model_extra or {})]


class Node(FlowPart):
    """One step of the conversation."""

    role_message: str | None = Field(
        default=None,
        description=(
            "Who the agent is. It stays in force until a later node sets another one; the first node must "
            "have one."
        ),
        examples=["You are the friendly billing agent of Acme. You speak in short sentences."],
    )
    task_messages: tuple[Message, ...] = Field(
        default=(),
        description="Instructions for this node.",
        examples=[[{"role": "developer", "content": "Ask for the order number."}]],
    )
    functions: tuple[FlowFunction, ...] = Field(
        default=(),
        description=(
            "Functions of this node. The template's `functions` are offered at every node in addition."
        ),
    )
    pre_actions: tuple[Action, ...] = Field(
        default=(), description="Not available in templates; must be empty.", examples=[[]]
    )
    post_actions: tuple[Action, ...] = Field(
        default=(),
        description="Actions after the node's answer: `end_conversation` ends the call.",
        examples=[[{"type": "end_conversation"}]],
    )
    context_strategy: Literal["append", "reset", "reset_with_summary"] | None = Field(
        default=None,
        description=(
            "`reset` removes the earlier conversation from the model's context, `reset_with_summary` "
            "replaces it by a summary. Null: `append`."
        ),
        examples=["reset"],
    )
    say: str | None = Field(
        default=None,
        description=(
            "Text that is spoken word for word when the node is entered, before the model answers. May "
            "contain `{{ name }}`. With `respond_immediately` false, the model says nothing more."
        ),
        examples=["Calls are recorded for quality."],
    )
    dtmf: DtmfInput | None = Field(
        default=None,
        description="What the caller may enter by the keys at this node. Null: keys have no effect.",
        examples=[{"max_digits": 8, "variable": "customer_number"}],
    )
    respond_immediately: Flag = Field(
        default=True, description="False: at this node the agent waits until the caller speaks."
    )


class FlowDocument(FlowPart):
    """A conversation in several steps, in the format of pipecat's FlowConfig."""

    initial_node: str = Field(description="Name of the first node.", examples=["greet"])
    nodes: dict[str, Node] = Field(
        description="The nodes by name.",
        examples=[
            {"greet": {"task_messages": [{"role": "developer", "content": "Ask what the caller needs."}]}}
        ],
    )
    global_functions: tuple[FlowFunction, ...] = Field(
        default=(), description="Functions that are offered at every node, with their transitions."
    )

    def to_config_document(self) -> dict[str, Any]:
        """The document for ``pipecat.flows.FlowConfig``, without what ``templates.compile`` adds."""
        document = self.model_dump(mode="json", exclude_none=True)
        for node in document["nodes"].values():
            node.pop("say", None)
            node.pop("dtmf", None)
            if node.get("context_strategy") == "reset_with_summary":
                node["context_strategy"] = "reset"
        lists = [document["global_functions"], *(node["functions"] for node in document["nodes"].values())]
        for function in (each for functions in lists for each in functions):
            function.pop("parameters", None)
            if isinstance(function.get("transition_to"), dict) and "conditions" in function["transition_to"]:
                # Any node that exists: the compiled function decides where to go.
                function["transition_to"] = self.initial_node
        return document
