"""Base class of the handlers: a name, a description for the model, validated arguments, and ``run``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from handlers.context import CallContext
from templates.compile import Function, FunctionResult


class Arguments(BaseModel):
    """Base class of the arguments of a handler; undeclared arguments are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


A = TypeVar("A", bound=Arguments)


class Handler(ABC, Generic[A]):
    """A function that a model may call during a call.

    Subclasses set ``name``, ``description`` and ``arguments`` (a pydantic model) and implement :meth:`run`.
    Invalid arguments do not reach ``run``: the model receives the validation errors and may call again.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    arguments: type[A]

    @abstractmethod
    async def run(self, call: CallContext, arguments: A) -> FunctionResult:
        """Run the function and return the result for the model."""

    def describe(self, call: CallContext) -> str:
        """The description for the model; by default the same on every call."""
        return self.description

    def properties(self, call: CallContext) -> dict[str, Any]:
        """JSON Schema of each argument, as the model receives it."""
        return deepcopy(_published(self.arguments)[0])

    def bind(self, call: CallContext) -> Function:
        """This handler as a function of one call, to be compiled into a flow."""

        async def run(raw: Mapping[str, Any]) -> FunctionResult:
            try:
                arguments = self.arguments.model_validate(dict(raw))
            except ValidationError as error:
                return FunctionResult(result=_refusal(error), failed=True)
            return await self.run(call, arguments)

        return Function(
            name=self.name,
            description=self.describe(call),
            properties=self.properties(call),
            required=_published(self.arguments)[1],
            run=run,
            # Handlers answer within milliseconds; "async" tools would add a block to the system prompt.
            cancel_on_interruption=True,
            timeout_secs=None,
        )


@cache
def _published(arguments: type[Arguments]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Properties and required names for the model. Cached, because pydantic needs milliseconds for them."""
    schema = arguments.model_json_schema()
    properties = {name: _plain(property_) for name, property_ in schema.get("properties", {}).items()}
    return properties, tuple(schema.get("required", ()))


def _plain(property_: dict[str, Any]) -> dict[str, Any]:
    """A property without titles, defaults, examples and null branches, which would only cost tokens."""
    kept = {key: value for key, value in property_.items() if key not in {"title", "default", "examples"}}
    options = [option for option in kept.pop("anyOf", []) if option != {"type": "null"}]
    if len(options) == 1:
        kept = {**options[0], **kept}
    elif options:
        kept["anyOf"] = options
    return kept


def _refusal(error: ValidationError) -> dict[str, Any]:
    wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors())
    return {
        "status": "refused",
        "code": "invalid_arguments",
        "message": f"Not done. {wrong}. Correct the arguments and call again.",
    }
