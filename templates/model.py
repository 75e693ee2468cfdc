"""The template: what an author writes (``TemplateContent``) and what the API answers (``Template``).

Everything but the name has a default, so that a draft may leave it out and a name with a prompt is a whole
template. ``None`` appears only where leaving something out means something: no number, no greeting, the
vendor's usual model. Shapes are enforced here (unknown fields and wrong types are refused even in a draft);
what is unwise or impossible on a call is found by ``templates.check``, so that a draft can be saved with it.
Bounds checked there are stated in the JSON Schema too. Everything is frozen; lists are tuples.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator
from pydantic_core import PydanticCustomError

from templates.bounds import E164, LANGUAGE, Bounds, Count, ToolName, VariableName
from templates.flow import Flag, FlowDocument
from templates.functions import BuiltinFunction, HttpFunction, TemplateFunction
from templates.problem import pointer
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
    "Route",
    "Stt",
    "Template",
    "TemplateContent",
    "TemplateFunction",
    "TemplateProblem",
    "Tts",
    "Turns",
    "Variable",
]

DEFAULT_VOICE_ID = "21m00Tcm4TlvDq8ikWAM"
"""ElevenLabs' premade voice "Rachel", the one its own API reference uses in examples."""

Kind = Literal["agent", "orchestrator"]
Status = Literal["draft", "active"]
Source = Literal["payload", "call"]
VariableType = Literal["string", "number", "integer", "boolean", "date", "object"]
ContextMode = Literal["full", "summary", "variables", "none"]


class Part(BaseModel):
    """What every part of a template has in common: no unknown fields, and nobody changes it once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Variable(Part):
    """A value that prompts insert with `{{ name }}`."""

    name: VariableName = Field(
        description="Letters, digits and `_`, not beginning with a digit. Write `{{ name }}` to insert it.",
        examples=["customer_name"],
    )
    type: VariableType = Field(
        default="string",
        description="`date` is YYYY-MM-DD. An `object` is read with a dot: `{{ order.size }}`.",
    )
    required: Flag = Field(default=False, description="Whether a call or a route without it is refused.")
    default: Any = Field(
        default=None,
        description="The value when none is given. Without one, a missing value is inserted as nothing.",
    )
    description: str = Field(
        default="",
        description="What it holds. The model reads it when it has to fill the variable in.",
        examples=["The caller's customer number, eight digits"],
    )
    source: Source = Field(
        default="payload",
        description=(
            "`payload`: given with the lead before the call. `call`: learned during the call, from "
            "`route_to_agent`, "
            "from `keep` of an HTTP function, or from a built-in function."
        ),
    )


class Greeting(Part):
    """The agent's first words, spoken as they stand here."""

    text: str = Field(
        description="May contain `{{ name }}`. It is synthesised ahead of time, so it is heard at once.",
        examples=["Hello, this is Acme. How can I help you?"],
    )
    interruptible: Flag = Field(default=True, description="Whether the caller can cut it short by speaking.")


class Tts(Part):
    """The agent's voice."""

    provider: str = Field(default="elevenlabs", description="Who synthesises the speech: `elevenlabs`.")
    voice_id: str = Field(
        default=DEFAULT_VOICE_ID,
        description="The provider's identifier of the voice.",
        examples=["21m00Tcm4TlvDq8ikWAM"],
    )
    model: str | None = Field(
        default=None, description="The provider's model; null: its usual one.", examples=["eleven_flash_v2_5"]
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="The provider's own settings.",
        examples=[{"stability": 0.5, "speed": 1.05}],
    )


class Stt(Part):
    """Who turns the caller's speech into text."""

    provider: str = Field(default="deepgram", description="Who listens: `deepgram`.")
    model: str | None = Field(
        default=None, description="The provider's model; null: its usual one.", examples=["nova-3"]
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "The provider's own settings. `language` stands here where the agent hears more than it speaks: "
            "`multi` with a model that knows many."
        ),
        examples=[{"keyterm": ["Acme", "SureFit"]}],
    )


class Llm(Part):
    """The language model that decides what is said and done."""

    provider: str = Field(
        default="openai", description="Who answers: `openai` (or a server that speaks its protocol)."
    )
    model: str | None = Field(
        default=None, description="The provider's model; null: the deployment's.", examples=["gpt-4.1"]
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="The provider's own settings.", examples=[{"temperature": 0.2}]
    )


class Turns(Part):
    """How the agent notices that the caller has finished, and whether the caller may interrupt."""

    strategy: Literal["stt", "silero", "smart_turn"] = Field(
        default="stt",
        description=(
            "`stt`: by the transcriber's word (cheapest). `silero`: by voice activity. `smart_turn`: by a "
            "model that "
            "hears whether a sentence is finished (costs most)."
        ),
    )
    end_silence_ms: Annotated[Count, Bounds(100, 5000)] = Field(
        default=600,
        description="Silence after which the caller has finished, in ms (100 to 5000).",
    )
    barge_in: Flag = Field(default=True, description="Whether the caller may interrupt the agent.")
    min_words: Annotated[Count, Bounds(0, 10)] = Field(
        default=0,
        description=(
            "Words the caller must say before it counts as an interruption (0 to 10); 0: any sound of speech."
        ),
    )


class Idle(Part):
    """What happens when the caller says nothing."""

    after_ms: Annotated[Count, Bounds(2000, 120_000)] = Field(
        default=8000,
        description=(
            "Silence, counted from what the caller last heard, before each prompt, in ms (2000 to 120000)."
        ),
    )
    prompts: tuple[str, ...] = Field(
        default=("Are you still there?", "I can't hear you. Are you still on the line?"),
        description=(
            "Spoken one after the other, each after another silence. May contain `{{ name }}`. Empty: hang "
            "up at once."
        ),
    )
    goodbye: str = Field(
        default="I'll hang up now. Goodbye.",
        description=(
            "Spoken after the last prompt went unanswered; then the call ends. May contain `{{ name }}`."
        ),
    )


class Route(Part):
    """A way from an orchestrator to an agent, taken when the model calls `route_to_agent`."""

    name: ToolName = Field(
        description="What the model calls the agent: 1 to 64 letters, digits, `_` or `-`. `back` is taken.",
        examples=["billing"],
    )
    template_id: str = Field(
        default="", description="Id of an active template of kind `agent` in this account."
    )
    when: str = Field(
        default="",
        description="For the model: when to route there. Say how it differs from the other routes.",
        examples=["The caller asks about an invoice, a payment or a refund."],
    )
    context: ContextMode = Field(
        default="full",
        description=(
            "What the agent knows of the conversation: `full` all of it, `summary` a summary, `variables` "
            "only the "
            "values handed over, `none` nothing."
        ),
    )
    announce: str | None = Field(
        default=None,
        description=(
            "Spoken by the old voice before the change. May contain `{{ name }}`. Null: a silent change."
        ),
        examples=["I'll put you through to billing."],
    )
    can_return: Flag = Field(default=True, description="Whether the agent may send the caller back (`back`).")


class Destination(Part):
    """A telephone number that `transfer_to_number` may connect the caller to."""

    name: ToolName = Field(
        description="What the model calls it: 1 to 64 letters, digits, `_` or `-`.", examples=["front_desk"]
    )
    number: Annotated[str, E164] = Field(
        default="", description="E.164: `+`, country code, number.", examples=["+14155550123"]
    )


class Limits(Part):
    """What a call may not exceed."""

    max_hops: Annotated[Count, Bounds(0, 50)] = Field(
        default=6,
        description="How often a call may change agent, ways back included (0 to 50).",
    )
    max_duration_ms: Annotated[Count, Bounds(10_000, 14_400_000)] = Field(
        default=3_600_000,
        description="After this the agent says goodbye and the call ends, in ms (10000 to 14400000).",
    )


class TemplateContent(Part):
    """An agent, as its author writes it: `name` makes a draft, `name` and `prompt` a whole agent."""

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:
        for path, fault in unstorable(data):
            raise PydanticCustomError(
                "unstorable", "'{place}' {fault}", {"place": pointer(*path), "fault": fault}
            )
        return data

    name: str = Field(description="Unique in the account.", examples=["Acme billing"])
    description: str = Field(
        default="",
        description="What the agent does, in a sentence; the orchestrator's model reads it.",
        examples=["Answers questions about invoices and takes payments."],
    )
    kind: Kind = Field(
        default="agent", description="An `orchestrator` routes callers to agents; only it has `routes`."
    )
    status: Status = Field(
        default="draft",
        description="An `active` template takes calls and must pass the check; a `draft` need not.",
    )
    number_id: str | None = Field(
        default=None,
        description="The number whose calls an orchestrator answers. One active orchestrator a number.",
    )
    language: Annotated[str, LANGUAGE] = Field(
        default="en-US",
        description="BCP 47 tag of the language spoken.",
        examples=["en-US", "de-DE", "es-MX"],
    )
    prompt: str | None = Field(
        default=None,
        description="A conversation in one step: everything the agent should know and do. Instead of `flow`.",
        examples=["You are the receptionist of Acme Dental. Find out what {{ customer_name }} needs …"],
    )
    flow: FlowDocument | None = Field(
        default=None, description="A conversation in several steps. Instead of `prompt`."
    )
    variables: tuple[Variable, ...] = Field(
        default=(), description="Every `{{ name }}` used must be declared here."
    )
    greeting: Greeting | None = Field(
        default=None, description="Null: the model finds the first words itself."
    )
    tts: Tts = Field(
        default_factory=Tts, description="The agent's voice: provider, voice, model and settings."
    )
    stt: Stt = Field(default_factory=Stt, description="Who turns speech into text.")
    llm: Llm = Field(default_factory=Llm, description="The language model: provider, model and settings.")
    turns: Turns = Field(default_factory=Turns, description="Turn taking and interruptions.")
    idle: Idle = Field(default_factory=Idle, description="What happens when the caller is silent.")
    functions: tuple[TemplateFunction, ...] = Field(
        default=(BuiltinFunction(type="builtin", name="end_call"),),
        description="Functions offered at every node. Left out: only `end_call`.",
    )
    routes: tuple[Route, ...] = Field(default=(), description="The agents an orchestrator can route to.")
    destinations: tuple[Destination, ...] = Field(
        default=(), description="Numbers for `transfer_to_number`; nothing else can be dialled."
    )
    limits: Limits = Field(
        default_factory=Limits, description="What a call may not exceed: changes of agent, and time."
    )


class TemplateProblem(BaseModel):
    """A fault that the check found, as the API answers it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pointer: str
    code: str
    message: str
    remedy: str


Revision = Annotated[int, Strict(), Field(ge=1)]


class Template(TemplateContent):
    """A template as the API answers it: the author's content, and what the server knows of it."""

    id: str = Field(description="UUIDv7.")
    revision: Revision = Field(description="Grows by one with every change; the ETag.")
    problems: tuple[TemplateProblem, ...] = Field(default=(), description="Errors that a draft still has.")
    created_at: datetime
    updated_at: datetime
