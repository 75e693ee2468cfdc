"""The shape of a template in a file: the template of the API, with names where that has ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field

from templates.bounds import E164
from templates.model import Route, TemplateContent

BESIDE: Mapping[str, str] = {"number_id": "number", "template_id": "template"}
"""Members that hold an id, and those that hold a name instead."""


class FileRoute(Route):
    """A way from an orchestrator to an agent, taken when the model calls `route_to_agent`."""

    template_id: str = Field(
        default="", description="Id of the agent's template; `template` is the better way to say it."
    )
    template: str | None = Field(
        default=None,
        description="Name of the agent's template: one of this set, or else one of the account.",
        examples=["Acme billing"],
    )


class FileTemplate(TemplateContent):
    """An agent, as its author keeps it in a file: `name` makes a draft, `name` and `prompt` a whole agent."""

    number_id: str | None = Field(
        default=None, description="Id of the number; `number` is the better way to say it."
    )
    number: Annotated[str | None, E164] = Field(
        default=None,
        description="The number whose calls an orchestrator answers, in E.164; one of the account's.",
        examples=["+14155550123"],
    )
    routes: tuple[FileRoute, ...] = Field(default=(), description="The agents an orchestrator can route to.")


def canonical(template: TemplateContent) -> dict[str, Any]:
    """A template as JSON values without members at their default: equal for all that say the same.

    Nodes, parameters and the like stay in their author's order, which is no part of what they say.
    """
    return {name: _plain(value) for name, value in _written(template)}


def ordered(names: Iterable[str]) -> list[str]:
    """Names of members in the model's order, each name's member beside the one that holds its id."""
    given = list(names)
    beside = [BESIDE[name] for name in given if name in BESIDE]
    found = [member for name in given if name not in beside for member in (name, BESIDE.get(name, name))]
    return [name for name in dict.fromkeys(found) if name in given]


def _written(part: BaseModel) -> Iterator[tuple[str, Any]]:
    """The members of a part that are not at their default, in the model's order."""
    fields = type(part).model_fields
    for name in ordered(fields):
        value = getattr(part, name)
        if fields[name].is_required() or value != fields[name].get_default(call_default_factory=True):
            yield name, value
    yield from sorted((part.model_extra or {}).items())


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {name: _plain(inner) for name, inner in _written(value)}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
