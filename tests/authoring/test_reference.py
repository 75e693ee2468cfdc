"""The template reference in docs/."""

from __future__ import annotations

from pathlib import Path

import pytest

from handlers.registry import HANDLERS
from voicebot.authoring.reference import MissingText, Reference, template_reference

REFERENCE = Path(__file__).parents[2] / "docs" / "template-reference.md"


def test_reference_is_current() -> None:
    """docs/template-reference.md is what the generator prints for the current models and handlers."""
    assert REFERENCE.read_text(encoding="utf-8") == template_reference(), (
        "run: python -m voicebot.authoring.reference > docs/template-reference.md"
    )


@pytest.mark.parametrize(
    "field", [{"type": "string", "description": "A name."}, {"type": "string", "examples": ["Acme"]}]
)
def test_field_without_description_or_example_is_an_error(field: dict[str, object]) -> None:
    """The generator refuses a field that lacks a description or an example."""
    with pytest.raises(MissingText, match=r"Part\.name"):
        Reference({}).table({"title": "Part", "properties": {"name": field}})


@pytest.mark.parametrize("name", HANDLERS)
def test_example_arguments_are_valid(name: str) -> None:
    """The example arguments of every built-in function pass the function's validation."""
    arguments = HANDLERS[name].arguments
    schema = arguments.model_json_schema()
    reference = Reference(schema.get("$defs", {}))
    examples = {key: reference.example(field) for key, field in schema.get("properties", {}).items()}
    arguments.model_validate(examples)
