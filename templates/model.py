"""The template: what an author writes (``TemplateContent``) and what the API answers (``Template``).

Every field except the name has a default, so that a draft may leave it out. ``None`` is used only where it
has a meaning of its own: no number, no greeting, the provider's default model. These models enforce the
structure: unknown fields and wrong types are refused even in a draft. All other rules are in
``templates.check``, so that a draft with such problems can be saved. The ranges checked there are also in the
JSON Schema. All models are frozen; lists are tuples.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from templates.bounds import E164, LANGUAGE, Bounds, Count, ToolName, VariableName
from templates.flow import Flag, FlowDocument
from templates.functions import BuiltinFunction, HttpFunction, TemplateFunction
from templates.inbound import InboundPolicy
from templates.outbound import Outbound
from templates.problem import pointer
from templates.services import Llm, LlmService, Part, Stt, SttService, Tts, TtsService
from templates.speech import Greeting, Idle, Takeover, Turns, Waiting
from templates.storable import unstorable

__all__ = [
    "BuiltinFunction",
    "Destination",
    "FlowDocument",
    "Greeting",
    "HttpFunction",
    "Idle",
    "Limits",
    "Llm",
    "LlmService",
    "Route",
    "Stt",
    "SttService",
    "Template",
    "TemplateContent",
    "TemplateFunction",
    "TemplateProblem",
    "Tts",
    "TtsService",
    "Turns",
    "Variable",
    "Waiting",
]

Kind = Literal["agent", "orchestrator"]
Status = Literal["draft", "active"]
Source = Literal["payload", "call"]
VariableType = Literal["string", "number", "integer", "boolean", "date", "object"]
ContextMode = Literal["full", "summary", "variables", "none"]


class Variable(Part):
    """A value that texts insert with `{{ name }}`."""

    name: VariableName = Field(
        description="Letters, digits and `_`, not beginning with a digit. `{{ name }}` inserts the value.",
        examples=["customer_name"],
    )
    type: VariableType = Field(
        default="string",
        description="`date` is YYYY-MM-DD. Parts of an `object` are inserted with a dot: `{{ order.size }}`.",
    )
    required: Flag = Field(default=False, description="Whether a call or a route without a value is refused.")
    default: Any = Field(
        default=None,
        description="Value to use when none is given. Null: the empty string is inserted.",
        examples=["customer"],
    )
    description: str = Field(
        default="",
        description="What the variable contains. The model reads it when it has to provide the value.",
        examples=["The caller's customer number, eight digits"],
    )
    source: Source = Field(
        default="payload",
        description=(
            "`payload`: provided with the lead before the call. `call`: provided during the call by "
            "`route_to_agent` or by `keep` of an HTTP function."
        ),
    )


class Route(Part):
    """A route to an agent, taken when the model calls `route_to_agent`."""

    name: ToolName = Field(
        description="Name for the model: 1 to 64 letters, digits, `_` or `-`. `back` is reserved.",
        examples=["billing"],
    )
    template_id: str = Field(
        default="",
        description="Id of an active template of kind `agent` in this account.",
        examples=["01a5a3c2-7c1e-7a52-9d5b-0f8d7a4b1c2d"],
    )
    when: str = Field(
        default="",
        description="For the model: when to route there, and how that differs from the other routes.",
        examples=["The caller asks about an invoice, a payment or a refund."],
    )
    context: ContextMode = Field(
        default="full",
        description=(
            "What the agent receives of the conversation: `full` all of it, `summary` a summary, `variables` "
            "only the variables, `none` nothing."
        ),
    )
    announce: str | None = Field(
        default=None,
        description=(
            "Text spoken in the current agent's voice before the change of agent. May contain `{{ name }}`. "
            "Null: nothing is spoken."
        ),
        examples=["I'll put you through to billing."],
    )
    can_return: Flag = Field(
        default=True,
        description="Whether the agent may return the caller (route `back`) to the one who routed.",
    )


class Destination(Part):
    """A telephone number that `transfer_to_number` may connect the caller to."""

    name: ToolName = Field(
        description="Name of the destination for the model: 1 to 64 letters, digits, `_` or `-`.",
        examples=["front_desk"],
    )
    number: Annotated[str, E164] = Field(
        default="",
        description="Telephone number in E.164: `+`, country code, number.",
        examples=["+14155550123"],
    )
    mode: Literal["cold", "attended"] = Field(
        default="cold",
        description=(
            "`cold`: the caller leaves the agent, and the number is dialled. `attended`: the caller stays "
            "until whoever answers has heard what it is about and pressed 1. If nobody does, the agent goes "
            "on."
        ),
    )


class Limits(Part):
    """Limits of a call."""

    max_hops: Annotated[Count, Bounds(0, 50)] = Field(
        default=6,
        description="How often a call may change its agent, including returns.",
    )
    max_duration_ms: Annotated[Count, Bounds(10_000, 14_400_000)] = Field(
        default=3_600_000,
        description="Duration after which the agent says goodbye and the call ends, in ms.",
    )
    silence_ms: Annotated[Count, Bounds(1000, 10_000)] = Field(
        default=2000,
        description=(
            "How long neither side may be heard while the agent owes the caller words, in ms. Shortly "
            "before, one of `fillers` is spoken."
        ),
    )


class TemplateContent(Part):
    """A template as its author writes it. A draft needs a `name`; an agent needs a `name` and a `prompt`."""

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:
        for path, fault in unstorable(data):
            raise PydanticCustomError(
                "unstorable", "'{place}' {fault}", {"place": pointer(*path), "fault": fault}
            )
        return data

    name: Annotated[str, StringConstraints(strip_whitespace=True)] = Field(
        description=(
            "Name of the template, unique in the account, 1 to 120 characters. Spaces around it are removed."
        ),
        examples=["Acme billing"],
    )
    description: str = Field(
        default="",
        description="What the agent does, in one sentence; the orchestrator's model reads it.",
        examples=["Answers questions about invoices and takes payments."],
    )
    kind: Kind = Field(
        default="agent",
        description="An `orchestrator` answers calls and routes them to agents; an `agent` is routed to.",
    )
    status: Status = Field(
        default="draft",
        description="An `active` template is used in calls and must pass the check; a `draft` is neither.",
    )
    number_id: str | None = Field(
        default=None,
        description="Id of the number whose calls the template answers: one active orchestrator, or agents.",
        examples=["01a5a3c2-7c1e-7a52-9d5b-0f8d7a4b1c2e"],
    )
    language: Annotated[str, LANGUAGE] = Field(
        default="en-US",
        description="BCP 47 tag of the language that the agent speaks.",
        examples=["en-US", "de-DE", "es-MX"],
    )
    prompt: str | None = Field(
        default=None,
        description="Instructions for a conversation in one step. Exactly one of `prompt` and `flow` is set.",
        examples=["You are the receptionist of Acme Dental. Find out what {{ customer_name }} needs …"],
    )
    flow: FlowDocument | None = Field(
        default=None,
        description="Nodes of a conversation in several steps. Exactly one of `prompt` and `flow` is set.",
    )
    variables: tuple[Variable, ...] = Field(
        default=(), description="Variables that the texts insert. Every `{{ name }}` must be declared."
    )
    greeting: Greeting | None = Field(
        default=None, description="The agent's first words. Null: the model generates them."
    )
    tts: Tts = Field(default_factory=Tts, description="Text to speech: provider, voice, model and settings.")
    stt: Stt = Field(default_factory=Stt, description="Speech to text: provider, model and settings.")
    llm: Llm = Field(default_factory=Llm, description="The language model: provider, model and settings.")
    turns: Turns = Field(default_factory=Turns, description="Detection of turns, and interruptions.")
    idle: Idle = Field(default_factory=Idle, description="What the agent does when the caller is silent.")
    waiting: Waiting = Field(
        default_factory=Waiting, description="What the caller hears while waiting for a person."
    )
    takeover: Takeover = Field(
        default_factory=Takeover, description="What is recorded of an operator who takes the call over."
    )
    fillers: tuple[str, ...] | None = Field(
        default=None,
        description=(
            "Texts spoken in turn while the caller waits for the agent, see `limits.silence_ms`. May contain "
            "`{{ name }}`. Null: usual words of the agent's language. Empty: the caller waits in silence."
        ),
        examples=[["One moment, please.", "I am still looking."]],
    )
    functions: tuple[TemplateFunction, ...] = Field(
        default=(BuiltinFunction(type="builtin", name="end_call"),),
        description="Functions that are offered to the model at every node.",
    )
    routes: tuple[Route, ...] = Field(
        default=(),
        description="The agents to which the model can route the call. An agent may have routes too.",
    )
    destinations: tuple[Destination, ...] = Field(
        default=(), description="Numbers that `transfer_to_number` may dial; it can dial no others."
    )
    limits: Limits = Field(
        default_factory=Limits, description="Limits of a call: changes of agent, duration, and silence."
    )
    outbound: Outbound = Field(
        default_factory=Outbound, description="How leads of this template are dialled."
    )
    inbound: InboundPolicy | None = Field(
        default=None,
        description=(
            "Which of the calls that this template would answer are taken; the policy of the number decides "
            "first. Null: all that the number takes."
        ),
        examples=[{"hours": {"from": "09:00", "to": "17:00"}, "refusal": {"action": "callback"}}],
    )


class TemplateProblem(BaseModel):
    """A problem found by the check, as the API answers it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pointer: str
    code: str
    message: str
    remedy: str


Revision = Annotated[int, Strict(), Field(ge=1)]


class Template(TemplateContent):
    """A template as the API answers it: the author's content and the server's fields."""

    id: str = Field(description="UUIDv7.")
    revision: Revision = Field(description="Increased by one with every change; the value of the ETag.")
    problems: tuple[TemplateProblem, ...] = Field(default=(), description="Errors of a draft.")
    warnings: tuple[TemplateProblem, ...] = Field(
        default=(), description="What the check warns of; not in lists."
    )
    created_at: datetime
    updated_at: datetime
