"""The shape of a template, its schema for editors, and its likeness to pipecat's flow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator
from pipecat.flows import FlowConfig
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from templates.check import CheckContext, check_document
from templates.model import Template, TemplateContent
from templates.parameters import declared_parameters
from templates.schema import EXAMPLES, file_schema, template_schema
from templates.services import Part
from templates.sets import with_names
from tests.templates.sample_accounts import PROVIDERS, SampleAccount, sample_accounts

SCHEMA = template_schema(providers=PROVIDERS)
FILE_SCHEMA = file_schema(providers=PROVIDERS)


def properties(schema: dict[str, Any]) -> dict[str, set[str]]:
    parts = {schema["title"]: schema, **schema.get("$defs", {})}
    return {name: set(part["properties"]) for name, part in parts.items()}


def test_flow_has_the_fields_of_pipecats() -> None:
    """A flow here has the parts and fields of pipecat's FlowConfig, and those that are compiled here."""
    ours = properties(TemplateContent.model_json_schema())
    theirs = properties(FlowConfig.model_json_schema())
    names = {"FlowDocument": "FlowConfig", "FlowFunction": "Function"}
    parts = ("FlowDocument", "Node", "FlowFunction", "Branch", "Action", "Message")
    own = {"Node": {"say", "dtmf"}, "FlowFunction": {"parameters"}}
    assert {names.get(part, part): ours[part] - own.get(part, set()) for part in parts} == theirs


def parts(of: type[Part] = Part) -> Iterator[type[Part]]:
    for part in of.__subclasses__():
        yield from (part, *parts(part))


def test_flags_are_booleans() -> None:
    """No part of a template takes a number or a word for a boolean, as its schema says."""
    flags = [(part, name) for part in parts() for name, field in part.model_fields.items() if is_flag(field)]
    assert len(flags) > 5
    for part, name in flags:
        with pytest.raises(ValidationError) as refused:
            part(**{name: 0})
        assert (name,) in [error["loc"] for error in refused.value.errors()], f"{part.__name__}.{name}"


def is_flag(field: FieldInfo) -> bool:
    return field.annotation is bool


@given(account=sample_accounts())
def test_flow_is_read_by_pipecat(account: SampleAccount) -> None:
    """A flow without faults is a FlowConfig, and both say the same."""
    flow = TemplateContent.model_validate(account.document).flow
    assert flow is not None
    theirs = FlowConfig.model_validate(flow.to_config_document())
    assert theirs == FlowConfig.model_validate(account.document["flow"])


@given(account=sample_accounts())
def test_document_survives_reading_and_writing(account: SampleAccount) -> None:
    """A template that is written as JSON is read as the same template."""
    for document in account.documents.values():
        content = TemplateContent.model_validate(document)
        assert TemplateContent.model_validate(content.model_dump(mode="json")) == content


def test_template_is_immutable() -> None:
    """A template that was read is immutable."""
    content = TemplateContent(name="Billing")
    with pytest.raises(ValidationError):
        content.name = "Sales"  # type: ignore[misc]


def test_server_fields_are_not_the_authors() -> None:
    """Id, revision, problems, warnings and times belong to the answer, not to an author's document."""
    added = set(Template.model_fields) - set(TemplateContent.model_fields)
    assert added == {"id", "revision", "problems", "warnings", "created_at", "updated_at"}
    for name in added:
        _, report = check_document({"name": "Billing", name: 1})
        assert (f"/{name}", "unknown_field") in {(each.pointer, each.code) for each in report.errors}


def described(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, part in schema.get("$defs", {}).items():
        yield from described(part, name)
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field


def test_every_field_is_described_for_editors() -> None:
    """Every field of the schema has a description of its own."""
    fields = dict(described(SCHEMA))
    assert len(fields) > 80
    assert [path for path, field in fields.items() if len(field.get("description", "")) < 15] == []


def test_schema_is_valid_and_its_examples_fit() -> None:
    """The schema is JSON Schema, and the examples of the whole and of each field are valid under it."""
    Draft202012Validator.check_schema(SCHEMA)
    for example in EXAMPLES:
        assert list(Draft202012Validator(SCHEMA).iter_errors(example)) == []
    for path, field in described(SCHEMA):
        validator = Draft202012Validator({**field, "$defs": SCHEMA["$defs"]})
        for example in field.get("examples", ()):
            assert list(validator.iter_errors(example)) == [], path


def test_examples_pass_the_check() -> None:
    """The examples that authors copy have no errors."""
    for example in EXAMPLES:
        assert check_document(example, CheckContext(providers=PROVIDERS))[1].errors == ()


def test_every_field_of_a_file_is_described_for_editors() -> None:
    """In a file as well every field has a description, names stand beside ids, and the examples fit."""
    fields = dict(described(FILE_SCHEMA))
    assert len(fields) > 80
    assert [path for path, field in fields.items() if len(field.get("description", "")) < 15] == []
    assert list(FILE_SCHEMA["$defs"]["FileRoute"]["properties"])[:3] == ["name", "template_id", "template"]
    Draft202012Validator.check_schema(FILE_SCHEMA)
    for example in FILE_SCHEMA["examples"]:
        assert list(Draft202012Validator(FILE_SCHEMA).iter_errors(example)) == []


@given(account=sample_accounts())
def test_valid_templates_match_the_schema_of_files(account: SampleAccount) -> None:
    """A valid set with names is valid under the schema, as one file or as several."""
    validator = Draft202012Validator(FILE_SCHEMA)
    names = {key: document["name"] for key, document in account.documents.items()}
    documents = [with_names(each, names, {}) for each in account.documents.values()]
    for document in (*documents, {"templates": documents}):
        assert list(validator.iter_errors(document)) == []


@given(account=sample_accounts())
def test_valid_templates_match_the_schema(account: SampleAccount) -> None:
    """A template that the check accepts is valid under the schema."""
    validator = Draft202012Validator(SCHEMA)
    for document in account.documents.values():
        assert list(validator.iter_errors(document)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("routes", 0, "name"), "our billing"),
        (("variables", 0, "name"), "9lives"),
        (("destinations",), [{"name": "office", "number": "911"}]),
        (("language",), "english"),
        (("limits",), {"max_hops": 99}),
        (("tts", "provider"), "nobody"),
        (("tts", "voice_id"), "../v1/user"),
        (("tts",), {"provider": "deepgram", "voice_id": "21m00Tcm4TlvDq8ikWAM"}),
        (("tts", "settings"), {"speed": 9}),
        (("stt",), {"settings": {"callback": "https://example.com"}}),
        (("stt",), {"provider": "elevenlabs", "settings": {"keyterm": ["Acme"]}}),
        (("llm",), {"settings": {"temprature": 0.2}}),
        (("llm",), {"provider": "unset", "settings": {"temperature": 3}}),
        (("functions", 0, "name"), "send_fax"),
        (("kind",), "queue"),
    ],
)
def test_editors_underline_what_the_check_refuses(path: tuple[Any, ...], value: Any) -> None:
    """Bounds, forms and names that an active template keeps are in the schema too."""
    document = TemplateContent.model_validate(EXAMPLES[1]).model_dump(mode="json", exclude_unset=True)
    assert list(Draft202012Validator(SCHEMA).iter_errors(document)) == []
    place: Any = document
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    assert list(Draft202012Validator(SCHEMA).iter_errors(document)) != []


def test_declared_parameters() -> None:
    """Parameters are given as a model is shown them; none at all is a function without arguments."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    assert declared_parameters(schema) == ({"a": {"type": "string"}}, ["a"])
    assert declared_parameters({}) == ({}, [])
