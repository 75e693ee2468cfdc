"""Answer models made from the records of ``db``, so that each field is declared in one place.

A route returns the record and names the model: ``@router.get("", response_model=User)`` … ``-> UserRecord``.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from voicebot.api.pagination import PageOf


def answer_model(
    name: str,
    record: type[Any],
    *,
    omit: Collection[str] = (),
    aliases: Mapping[str, str] | None = None,
    types: Mapping[str, Any] | None = None,
    properties: Collection[str] = (),
) -> type[BaseModel]:
    """Make the model of a record's answer; it reads records by attribute.

    The docstrings of the record, its fields and its properties become the descriptions in OpenAPI.

    Args:
        name: the name of the schema in OpenAPI.
        record: a dataclass with annotated fields.
        omit: fields that are not part of the answer.
        aliases: the JSON names of fields that differ from the record's.
        types: the types of fields that differ from the record's, such as nested answer models.
        properties: properties of the record that are part of the answer.
    """
    hints: dict[str, Any] = get_type_hints(record, include_extras=True) | dict(types or {})
    texts = _field_docstrings(record)
    aliases = aliases or {}
    members: dict[str, Any] = {
        field.name: (
            hints[field.name],
            Field(alias=aliases.get(field.name), description=texts.get(field.name)),
        )
        for field in fields(record)
        if field.name not in omit
    }
    for each in properties:
        getter = getattr(record, each).fget
        members[each] = (get_type_hints(getter)["return"], Field(description=inspect.getdoc(getter)))
    model: type[BaseModel] = create_model(
        name,
        __config__=ConfigDict(from_attributes=True, validate_by_name=True, validate_by_alias=True),
        __doc__=inspect.getdoc(record),
        __module__=__name__,
        **members,
    )
    return model


def page_of(model: type[BaseModel]) -> type[BaseModel]:
    """The model of a page of answers; it reads ``db.rows.Page``."""
    return cast("type[BaseModel]", PageOf.__class_getitem__(model))


def _field_docstrings(record: type[Any]) -> Mapping[str, str]:
    """The string that follows each annotated field in the source of a class."""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(record))).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101 - narrowed for the type check
    found: dict[str, str] = {}
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=field)), ast.Expr(value=ast.Constant(value=str(text))):
                found[field] = inspect.cleandoc(text)
    return found
