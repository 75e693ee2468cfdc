"""Makes response models of the records of ``db``, so that each field is declared in one place.

``Route = Annotated[RouteRecord, AnswerOf("Route")]`` is the record to the type checker, and a model
with the fields of the record to FastAPI. Where the API answers more than the record holds, a dataclass
inherits from the record and adds fields; see ``extended``.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    create_model,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

RecordT = TypeVar("RecordT")


@dataclass(frozen=True, slots=True, eq=False)
class AnswerOf:
    """An annotation of a record: how the API presents it.

    The docstrings of the record, its fields and its properties become the descriptions in OpenAPI.
    """

    name: str
    """Name of the schema in OpenAPI."""
    omit: tuple[str, ...] = ("account_id",)
    """Fields that are not answered."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Field → its name in JSON, where that differs."""
    types: Mapping[str, Any] = field(default_factory=dict)
    """Field → the type that is answered, where that differs, such as a nested answer."""
    properties: tuple[str, ...] = ()
    """Properties of the record that are answered too."""
    examples: Mapping[str, object] = field(default_factory=dict)
    """Field → an example for OpenAPI."""
    _models: dict[type[Any], type[BaseModel]] = field(default_factory=dict, init=False, repr=False)

    def __get_pydantic_core_schema__(self, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Have pydantic read, serialise and document the record as a model."""
        if source not in self._models:
            self._models[source] = self._model(source)
        return handler.generate_schema(self._models[source])

    def _model(self, record: type[Any]) -> type[BaseModel]:
        hints: dict[str, Any] = get_type_hints(record, include_extras=True)
        descriptions = _field_docstrings(record)
        for each in self.properties:
            getter = getattr(record, each).fget
            hints[each], descriptions[each] = get_type_hints(getter)["return"], inspect.getdoc(getter)
        hints |= self.types
        names = [each.name for each in fields(record) if each.name not in self.omit]
        members: dict[str, Any] = {
            each: (
                hints[each],
                Field(
                    alias=self.aliases.get(each),
                    description=_in_json_terms(descriptions.get(each)),
                    examples=[self.examples[each]] if each in self.examples else None,
                ),
            )
            for each in (*names, *self.properties)
        }
        model: type[BaseModel] = create_model(
            self.name,
            # It reads records by their fields' names, and writes the aliases.
            __config__=ConfigDict(from_attributes=True, validate_by_name=True, validate_by_alias=True),
            __doc__=_in_json_terms(inspect.getdoc(record)),
            __module__=__name__,
            **members,
        )
        return model


@dataclass(frozen=True, slots=True)
class DocumentedAs:
    """An annotation of a JSON value that is answered unchanged: OpenAPI refers to the schema of a model."""

    model: type[BaseModel]

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The JSON Schema of the model."""
        return handler(TypeAdapter(self.model).core_schema)


def extended(kind: type[RecordT], record: Any, **more: object) -> RecordT:
    """An instance of ``kind``, a subclass of the record's class: the record's values, and ``more``."""
    return kind(**{each.name: getattr(record, each.name) for each in fields(record)}, **more)


def _field_docstrings(record: type[Any]) -> dict[str, str | None]:
    """The string that follows each annotated field in the source of a class, inherited fields included."""
    found: dict[str, str | None] = {}
    for base in reversed([each for each in record.__mro__ if is_dataclass(each)]):
        definition = _definitions(base.__module__)[base.__name__]
        for statement, following in zip(definition.body, definition.body[1:], strict=False):
            match statement, following:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = inspect.cleandoc(text)
    return found


@cache
def _definitions(module: str) -> Mapping[str, ast.ClassDef]:
    """The classes of a module, each with its name. A module has many records, and its source is long."""
    parsed = ast.parse(inspect.getsource(sys.modules[module]))
    return {each.name: each for each in parsed.body if isinstance(each, ast.ClassDef)}


def _in_json_terms(description: str | None) -> str | None:
    """A docstring as OpenAPI has it: Markdown, and the values of JSON."""
    return description and description.replace("``", "`").replace("None", "null")
