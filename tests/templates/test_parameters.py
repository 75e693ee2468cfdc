"""Parameters of HTTP functions: what a model is shown of an author's JSON Schema."""

from __future__ import annotations

from typing import Any

import pytest

from templates.parameters import declared_parameters, matches, read_parameters

ADDRESS = {"type": "object", "properties": {"zip": {"type": "string", "pattern": "^[0-9]{5}$"}}}


def of(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **more}


def test_references_are_written_out() -> None:
    """A reference is replaced by its target, with the annotations beside the reference."""
    schema = of(
        {
            "to": {"$ref": "#/$defs/address", "description": "Where it goes."},
            "from": {"$ref": "#/$defs/address"},
        },
        required=["to"],
        **{"$defs": {"address": ADDRESS}},
    )
    assert declared_parameters(schema) == (
        {"to": {**ADDRESS, "description": "Where it goes."}, "from": ADDRESS},
        ["to"],
    )


def test_a_reference_at_the_top_is_followed() -> None:
    """Parameters that are one reference are the parameters that it refers to."""
    schema = {
        "$ref": "#/$defs/order",
        "$defs": {"order": of({"number": {"type": "string"}}, required=["number"])},
    }
    assert declared_parameters(schema) == ({"number": {"type": "string"}}, ["number"])


def test_rules_beside_a_reference_hold_with_it() -> None:
    """A rule that the referred part has too does not take its place: both hold."""
    schema = of(
        {"n": {"$ref": "#/$defs/n", "maximum": 5}}, **{"$defs": {"n": {"type": "integer", "maximum": 9}}}
    )
    read = declared_parameters(schema)[0]["n"]
    assert read == {"maximum": 5, "allOf": [{"type": "integer", "maximum": 9}]}


def test_data_is_left_as_it_is() -> None:
    """What only looks like a reference, in an example or a constant, is the author's data."""
    properties = {"a": {"const": {"$ref": "x"}}, "$ref": {"type": "string"}}
    assert read_parameters(of(properties)).faults == ()
    assert declared_parameters(of(properties))[0] == properties


def test_references_that_double_each_other_are_stopped() -> None:
    """A small schema that would be written out as millions of parts is a fault, found at once."""
    levels = {f"l{n}": {"items": {"anyOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 4}} for n in range(40)}
    schema = of({"a": {"$ref": "#/$defs/l0"}}, **{"$defs": {**levels, "l40": {}}})
    assert "endless" in {violation.kind for violation in read_parameters(schema).faults}


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        ("#/$defs/none", "unknown"),
        ("#anchor", "unknown"),
        ("#/required", "unknown"),
        ("#", "endless"),
        ("#/properties/a", "endless"),
        ("other.json", "remote"),
        ("file:///etc/passwd", "remote"),
        (5, "remote"),
    ],
)
def test_references_that_cannot_be_followed(reference: Any, kind: str) -> None:
    """Each invalid reference is reported with its path."""
    faults = read_parameters(of({"a": {"$ref": reference}}, required=["a"])).faults
    assert [(violation.kind, violation.path[:2]) for violation in faults] == [(kind, ("properties", "a"))]


def test_patterns_take_no_longer_than_their_text() -> None:
    """A pattern that makes a backtracking engine search for years is matched at once."""
    assert not matches("^(a+)+$", "a" * 5000 + "!")
    assert matches(r"^\p{L}+$", "Müller")
