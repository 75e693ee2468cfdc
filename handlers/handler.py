"""What every handler is made of: a name, words for the model, validated arguments, and what to run."""

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
    """Arguments of a call by the model: what is not declared is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


A = TypeVar("A", bound=Arguments)


class Handler(ABC, Generic[A]):
    """A function that a model may call during a call.

    Subclasses name themselves, describe themselves to the model, declare their arguments as a pydantic model
    and implement :meth:`run`. Arguments that do not validate never reach ``run``: the model is told which
    argument is wrong and how, and may call again.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    arguments: type[A]

    @abstractmethod
    async def run(self, call: CallContext, arguments: A) -> FunctionResult:
        """Do it, and answer the model."""

    def describe(self, call: CallContext) -> str:
        """The words by which the model decides whether to call; by default the same on every call."""
        return self.description

    def properties(self, call: CallContext) -> dict[str, Any]:
        """The arguments as JSON Schema properties, as the model sees them."""
        return deepcopy(_published(self.arguments)[0])

    def bind(self, call: CallContext) -> Function:
        """This handler as a function of one call, ready to be compiled into a flow."""

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
    """Properties and required names as the model sees them; pydantic takes milliseconds to say them."""
    schema = arguments.model_json_schema()
    properties = {name: _plain(property_) for name, property_ in schema.get("properties", {}).items()}
    return properties, tuple(schema.get("required", ()))


def _plain(property_: dict[str, Any]) -> dict[str, Any]:
    """A property without pydantic's titles and null branches, which only cost the model tokens."""
    kept = {key: value for key, value in property_.items() if key not in {"title", "default"}}
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
