"""What a template lets the model do at every node: built-in functions, and HTTP requests declared as data."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from templates.bounds import Bounds, Count, ToolName


class BuiltinFunction(BaseModel):
    """A function that voicebot brings along."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["builtin"] = Field(description="`builtin`: a function that voicebot brings along.")
    name: str = Field(
        description=(
            "`end_call`, `record_outcome`, `current_time`, `escalate_to_person` or `park_call`. "
            "(`route_to_agent` is offered by itself where there are routes.)"
        ),
        examples=["end_call"],
    )


class HttpFunction(BaseModel):
    """A request to a server of yours that the model may make during the call."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["http"] = Field(description="`http`: a request to a server of yours.")
    name: ToolName = Field(
        description="The name the model calls: 1 to 64 letters, digits, `_` or `-`.", examples=["find_order"]
    )
    description: str = Field(
        default="",
        description="For the model: what it does and when to call it.",
        examples=["Looks up an order by its number. Call it as soon as the caller has told the number."],
    )
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = Field(
        default="POST", description="HTTP method. Only GET and HEAD are tried again after a failure."
    )
    url: str = Field(
        default="",
        description=(
            "https address. `{{ name }}` in path or query inserts a parameter or a variable; the host is "
            "fixed."
        ),
        examples=["https://api.example.com/orders/{{ order_number }}"],
    )
    query: dict[str, str] = Field(
        default_factory=dict,
        description="Query parameters; values may contain `{{ name }}`.",
        examples=[{"expand": "items", "customer": "{{ customer_id }}"}],
    )
    headers: dict[str, str] = Field(
        default_factory=dict,
        description="Headers; values may contain `{{ name }}`. Anyone who may read the template reads them.",
        examples=[{"Accept-Language": "en"}],
    )
    secret_headers: dict[str, str] = Field(
        default_factory=dict,
        description="Headers that are stored encrypted and answered as `***`: keys and tokens belong here.",
        examples=[{"Authorization": "Bearer …"}],
    )
    body: Any = Field(
        default=None,
        description=(
            "JSON body; strings in it may contain `{{ name }}`. Left out: POST, PUT and PATCH send the "
            "arguments as a "
            "JSON object, other methods send them as query parameters."
        ),
        examples=[{"order": "{{ order_number }}"}],
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "JSON Schema of the arguments (an object) that the model fills in. `$ref` may point to "
            "`#/$defs/…`; a `pattern` is of RE2's syntax."
        ),
        examples=[
            {
                "type": "object",
                "properties": {"order_number": {"type": "string", "description": "As the caller says it."}},
                "required": ["order_number"],
            }
        ],
    )
    timeout_ms: Annotated[Count, Bounds(100, 30_000)] = Field(
        default=5000,
        description="How long to wait for the whole answer, in ms (100 to 30000).",
    )
    retries: Annotated[Count, Bounds(0, 3)] = Field(
        default=1,
        description=(
            "How often GET and HEAD are tried again within `timeout_ms` (0 to 3). Other methods never are."
        ),
    )
    wait_text: str | None = Field(
        default=None,
        description="Spoken while the request runs. May contain `{{ name }}`.",
        examples=["One moment, I am looking that up."],
    )
    keep: dict[str, str] = Field(
        default_factory=dict,
        description=(
            "Variable (declared with source `call`) → JSON pointer into the answer: what to remember."
        ),
        examples=[{"order_status": "/order/status"}],
    )
    max_result_bytes: Annotated[Count, Bounds(256, 65_536)] = Field(
        default=8192,
        description="How much of the answer the model is given, in bytes of JSON (256 to 65536).",
    )


TemplateFunction = Annotated[BuiltinFunction | HttpFunction, Field(discriminator="type")]
