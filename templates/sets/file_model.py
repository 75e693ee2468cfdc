"""Model of a template in a file: the template of the API with names in place of ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field

from templates.bounds import E164
from templates.model import Route, TemplateContent

NAME_FIELDS: Mapping[str, str] = {"number_id": "number", "template_id": "template"}
"""Field with an id → field with a name that replaces it."""


class FileRoute(Route):
    """A route to an agent, taken when the model calls `route_to_agent`."""

    template_id: str = Field(
        default="", description="Id of the agent's template. Prefer `template` in files."
    )
    template: str | None = Field(
        default=None,
        description="Name of the agent's template: a template of this set or of the account.",
        examples=["Acme billing"],
    )


class FileTemplate(TemplateContent):
    """A template in a file. A draft needs a `name`; an agent needs a `name` and a `prompt`."""

    number_id: str | None = Field(default=None, description="Id of the number. Prefer `number` in files.")
    number: Annotated[str | None, E164] = Field(
        default=None,
        description="The number whose calls the template answers: a number of the account, in E.164.",
        examples=["+14155550123"],
    )
    routes: tuple[FileRoute, ...] = Field(
        default=(),
        description="The agents to which the model can route the call. An agent may have routes too.",
    )


def canonical(template: TemplateContent) -> dict[str, Any]:
    """A template as JSON values without fields that have their default value.

    Equal for equivalent templates. Nodes, parameters and other objects keep the author's order.
    """
    return {name: _plain(value) for name, value in _written(template)}


def ordered(names: Iterable[str]) -> list[str]:
    """Field names in the model's order, each name field directly after the id field that it replaces."""
    given = list(names)
    beside = [NAME_FIELDS[name] for name in given if name in NAME_FIELDS]
    found = [member for name in given if name not in beside for member in (name, NAME_FIELDS.get(name, name))]
    return [name for name in dict.fromkeys(found) if name in given]


def _written(part: BaseModel) -> Iterator[tuple[str, Any]]:
    """The fields of a part that differ from their default, in the model's order, as JSON names them."""
    fields = type(part).model_fields
    for name in ordered(fields):
        value, field = getattr(part, name), fields[name]
        if field.is_required() or value != field.get_default(call_default_factory=True):
            yield field.alias or name, value
    yield from sorted((part.model_extra or {}).items())


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {name: _plain(inner) for name, inner in _written(value)}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
