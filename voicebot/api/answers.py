"""Answers of the API made from the records of ``db``, so that each field is declared in one place.

``Route = Annotated[RouteRecord, AnswerOf("Route")]`` is the record to the type checker, and a model
with the fields of the record to FastAPI. Where the API answers more than the record holds, a dataclass
inherits from the record and adds fields; see ``extended``.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, cast, get_type_hints

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

from voicebot.api.pagination import PageOf

RecordT = TypeVar("RecordT")


@dataclass(frozen=True, slots=True, eq=False)
class AnswerOf:
    """An annotation of a record: how the API answers it. The arguments are those of ``answer_model``."""

    name: str
    omit: tuple[str, ...] = ("account_id",)
    aliases: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, Any] = field(default_factory=dict)
    properties: tuple[str, ...] = ()
    examples: Mapping[str, object] = field(default_factory=dict)
    _models: dict[type[Any], type[BaseModel]] = field(default_factory=dict, init=False, repr=False)

    def __get_pydantic_core_schema__(self, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Have pydantic read, serialise and document the record as its answer model."""
        if source not in self._models:
            self._models[source] = answer_model(
                self.name,
                source,
                omit=self.omit,
                aliases=self.aliases,
                types=self.types,
                properties=self.properties,
                examples=self.examples,
            )
        return handler.generate_schema(self._models[source])


@dataclass(frozen=True, slots=True)
class DocumentedAs:
    """An annotation of a JSON value that is answered unchanged: OpenAPI refers to the schema of a model."""

    model: type[BaseModel]

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The JSON Schema of the model."""
        return handler(TypeAdapter(self.model).core_schema)


def answer_model(
    name: str,
    record: type[Any],
    *,
    omit: Collection[str] = (),
    aliases: Mapping[str, str] | None = None,
    types: Mapping[str, Any] | None = None,
    properties: Collection[str] = (),
    examples: Mapping[str, object] | None = None,
) -> type[BaseModel]:
    """Make the model of a record's answer; it reads records by attribute.

    The docstrings of the record, its fields and its properties become the descriptions in OpenAPI.

    Args:
        name: the name of the schema in OpenAPI.
        record: a dataclass with annotated fields.
        omit: fields that are not part of the answer.
        aliases: the JSON names of fields that differ from the record's.
        types: the types of fields that differ from the record's, such as nested answers.
        properties: properties of the record that are part of the answer.
        examples: an example for OpenAPI, by field.
    """
    hints: dict[str, Any] = get_type_hints(record, include_extras=True)
    descriptions = _field_docstrings(record)
    for each in properties:
        getter = getattr(record, each).fget
        hints[each], descriptions[each] = get_type_hints(getter)["return"], inspect.getdoc(getter)
    hints |= types or {}
    members: dict[str, Any] = {
        each: (
            hints[each],
            Field(
                alias=(aliases or {}).get(each),
                description=_in_json_terms(descriptions.get(each)),
                examples=[examples[each]] if examples and each in examples else None,
            ),
        )
        for each in (*(field.name for field in fields(record) if field.name not in omit), *properties)
    }
    model: type[BaseModel] = create_model(
        name,
        __config__=ConfigDict(from_attributes=True, validate_by_name=True, validate_by_alias=True),
        __doc__=_in_json_terms(inspect.getdoc(record)),
        __module__=__name__,
        **members,
    )
    return model


def page_of(model: type[BaseModel]) -> type[BaseModel]:
    """The model of a page of answers; it reads ``db.rows.Page``."""
    return cast("type[BaseModel]", PageOf.__class_getitem__(model))


def extended(kind: type[RecordT], record: Any, **more: object) -> RecordT:
    """An instance of ``kind``, a subclass of the record's class: the record's values, and ``more``."""
    return kind(**{each.name: getattr(record, each.name) for each in fields(record)}, **more)


def _field_docstrings(record: type[Any]) -> dict[str, str | None]:
    """The string that follows each annotated field in the source of a class, inherited fields included."""
    found: dict[str, str | None] = {}
    for base in reversed([each for each in record.__mro__ if is_dataclass(each)]):
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)  # noqa: S101 - narrowed for the type check
        for statement, following in zip(definition.body, definition.body[1:], strict=False):
            match statement, following:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = inspect.cleandoc(text)
    return found


def _in_json_terms(description: str | None) -> str | None:
    """A docstring as OpenAPI has it: Markdown, and the values of JSON."""
    return description and description.replace("``", "`").replace("None", "null")
