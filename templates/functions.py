"""Models of the functions in a template: built-in functions, and HTTP requests declared as data."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from templates.bounds import Bounds, Count, ToolName


class BuiltinFunction(BaseModel):
    """A built-in function of voicebot."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["builtin"] = Field(description="`builtin`: a function of voicebot.")
    name: str = Field(
        description=(
            "Name of the built-in function. (`route_to_agent` is offered automatically and is not listed.)"
        ),
        examples=["end_call"],
    )
    nodes: tuple[str, ...] | None = Field(
        default=None,
        description="Nodes of the flow at which the function is offered. Null: at every node.",
        examples=[["confirm"]],
    )


class HttpFunction(BaseModel):
    """An HTTP request to the author's server that the model can make during the call."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["http"] = Field(description="`http`: a request to the author's server.")
    name: ToolName = Field(
        description="Name for the model: 1 to 64 letters, digits, `_` or `-`.", examples=["find_order"]
    )
    description: str = Field(
        default="",
        description="For the model: what the function does and when to call it.",
        examples=["Looks up an order by its number. Call it when the caller has said the number."],
    )
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = Field(
        default="POST", description="HTTP method. Only GET and HEAD are retried after a failure."
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
        description="Headers; values may contain `{{ name }}`. Readers of the template can read them.",
        examples=[{"Accept-Language": "en"}],
    )
    secret_headers: dict[str, str] = Field(
        default_factory=dict,
        description="Headers with keys and tokens. They are stored encrypted, and the API answers `***`.",
        examples=[{"Authorization": "Bearer …"}],
    )
    body: Any = Field(
        default=None,
        description=(
            "JSON body; strings in it may contain `{{ name }}`. Null: POST, PUT and PATCH send the arguments "
            "as a JSON object, other methods send them as query parameters."
        ),
        examples=[{"order": "{{ order_number }}"}],
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "JSON Schema (of an object) of the arguments that the model provides. `$ref` may refer to "
            "`#/$defs/…`; `pattern` uses RE2 syntax."
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
        description="Time limit for the complete answer, including retries, in ms.",
    )
    retries: Annotated[Count, Bounds(0, 3)] = Field(
        default=1,
        description=(
            "How often GET and HEAD are retried within `timeout_ms`. Other methods are never retried."
        ),
    )
    wait_text: str | None = Field(
        default=None,
        description="Text spoken when the answer takes longer than 0.6 s. May contain `{{ name }}`.",
        examples=["One moment, I am looking that up."],
    )
    keep: dict[str, str] = Field(
        default_factory=dict,
        description=(
            "Variable (with source `call`) → JSON pointer into the answer: values to store in variables."
        ),
        examples=[{"order_status": "/order/status"}],
    )
    max_result_bytes: Annotated[Count, Bounds(256, 65_536)] = Field(
        default=8192,
        description="Maximum size of the answer for the model, in bytes of JSON; it is shortened if longer.",
    )
    nodes: tuple[str, ...] | None = Field(
        default=None,
        description="Nodes of the flow at which the function is offered. Null: at every node.",
        examples=[["confirm"]],
    )


TemplateFunction = Annotated[BuiltinFunction | HttpFunction, Field(discriminator="type")]
