"""Typed variables: validated, coerced, defaulted, inserted once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templates.model import Variable
from templates.values import (
    MAX_CALL_LINES,
    MAX_CALL_OBJECT,
    MAX_CALL_TEXT,
    InvalidValues,
    coerce,
    literal,
    placeholders,
    render,
    resolve,
    shortened,
    state,
)

ORDER = Variable(name="order", type="object")
NAME = Variable(name="name", required=True, description="Who is calling")
AGE = Variable(name="age", type="integer", default=18)
MOOD = Variable(name="mood", source="call", required=True)


def test_given_default_and_missing_values() -> None:
    """Every declared variable gets a value: the given one in its type, else the default, else None."""
    assert resolve([ORDER, NAME, AGE], {"name": " Ada ", "age": "36", "other": 1}, source="payload") == {
        "order": None,
        "name": " Ada ",
        "age": 36,
    }
    assert resolve([NAME, AGE], {"name": "Ada", "age": " "}, source="payload")["age"] == 18


def test_all_faults_at_once_with_pointers() -> None:
    """Every missing and unfit value is reported with its pointer, and the value itself is not repeated."""
    with pytest.raises(InvalidValues) as caught:
        resolve([ORDER, NAME, AGE], {"order": "sesame", "age": "old secret"}, source="payload")
    found = [(problem.pointer, problem.code) for problem in caught.value.problems]
    assert found == [("/order", "variable_type"), ("/name", "variable_required"), ("/age", "variable_type")]
    assert "sesame" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_each_source_fills_only_its_own_variables() -> None:
    """A payload fills only payload variables, and only these are required of it; a route likewise."""
    payload = resolve([NAME, MOOD], {"name": "Ada", "mood": "forged"}, source="payload")
    assert payload == {"name": "Ada", "mood": None}
    routed = resolve([NAME, MOOD], {"name": "forged", "mood": "calm"}, source="call", known=payload)
    assert routed == {"name": "Ada", "mood": "calm"}
    with pytest.raises(InvalidValues):
        resolve([NAME, MOOD], {}, source="call", known=payload)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("string", "x", "x"),
        ("string", 5, "5"),
        ("string", 5.0, "5"),
        ("integer", "42", 42),
        ("integer", -7.0, -7),
        ("number", "12.5", 12.5),
        ("number", "12", 12),
        ("number", 1, 1),
        ("boolean", "Yes", True),
        ("boolean", False, False),
        ("date", "2026-03-01", "2026-03-01"),
        ("date", " 2026-03-01T10:00:00+02:00", "2026-03-01"),
        ("object", {"a": 1}, {"a": 1}),
        ("object", '{"a": 1}', {"a": 1}),
    ],
)
def test_kind_coercion(kind: Any, value: Any, expected: Any) -> None:
    """What plainly means a value of the type is taken as one."""
    result = coerce(kind, value)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", True),
        ("string", ["x"]),
        ("string", {}),
        ("integer", "forty"),
        ("integer", 4.5),
        ("integer", True),
        ("number", "1e400"),
        ("number", float("nan")),
        ("number", 10**400),
        ("integer", 10**400),
        ("string", 10**400),
        pytest.param("object", "[" * 100_000, id="object-deep"),
        ("number", "1,5"),
        ("boolean", 1),
        ("boolean", "maybe"),
        ("date", "tomorrow"),
        ("date", "2026-02-30"),
        ("date", 20260301),
        ("object", "[1]"),
        ("object", [1]),
        ("object", {1: 2}),
        ("object", '{"a": NaN}'),
        ("object", {"a": float("inf")}),
        ("object", {"a": ["\0"]}),
        ("string", "a\0b"),
    ],
)
def test_strict_coercion(kind: Any, value: Any) -> None:
    """What would have to be guessed at is refused."""
    with pytest.raises(ValueError, match=r"a|true"):
        coerce(kind, value)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(kind=st.sampled_from(["string", "number", "integer", "boolean", "date", "object"]), value=JSON_VALUES)
def test_coercion_is_settled_and_json(kind: Any, value: Any) -> None:
    """A coerced value is JSON and coerces to itself; everything else raises ValueError and nothing else."""
    try:
        once = coerce(kind, value)
    except ValueError:
        return
    assert coerce(kind, once) == once
    assert json.loads(json.dumps(once)) == once


TEXTS = st.lists(st.sampled_from(["\\", "{", "}", "{{", "}}", " x ", "a.b", "{{ x }}", "x", "é", "\n"])).map(
    "".join
)


@given(TEXTS)
def test_literal_renders_back(text: str) -> None:
    """A text that went through `literal` renders as it was, whatever braces and backslashes it has."""
    assert render(literal(text), {"x": "WRONG", "a": {"b": "WRONG"}}) == text
    assert placeholders(literal(text)) == []


@given(value=TEXTS)
def test_values_are_inserted_once(value: str) -> None:
    """An inserted value is not looked at again."""
    assert render("[{{ x }}]", {"x": value, "a": "WRONG"}) == f"[{value}]"
    assert str(state({"x": value})["x"]) == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), ({}, ""), (True, "true"), (3.0, "3"), (3.5, "3.5"), ({"a": "é"}, '{"a": "é"}'), ("", "")],
)
def test_how_values_are_shown(value: Any, shown: str) -> None:
    """Values read as a person would write them, and absence reads as nothing."""
    assert str(state({"v": value})["v"]) == render("{{ v }}", {"v": value}) == shown


def test_paths_into_anything_never_fail() -> None:
    """A path into a value that has no such part is nothing, in a flow's state as in other texts."""
    for value in (None, "text", 5, {"a": None}, {"a": "b"}, [1]):
        assert render("{{ v.a.b.c }}", {"v": value}) == ""
        assert str(state({"v": value})["v"]["a"]["b"]["c"]) == ""
    assert render("{{ unknown }}", {}) == ""


def test_values_set_during_a_call_are_bounded() -> None:
    """A text of many characters or lines, or a large object, is refused if the model sets it on a call."""
    variables = [Variable(name="note", source="call"), Variable(name="order", type="object", source="call")]
    short = {"note": "x" * MAX_CALL_TEXT, "order": {"text": "x"}}
    assert resolve(variables, short, source="call") == short
    for long in ({"note": "x" * (MAX_CALL_TEXT + 1)}, {"note": "x\n" * MAX_CALL_LINES}):
        with pytest.raises(InvalidValues, match="characters in at most"):
            resolve(variables, long, source="call")
    with pytest.raises(InvalidValues, match="characters as JSON"):
        resolve(variables, {"order": {"text": "x" * MAX_CALL_OBJECT}}, source="call")


def test_long_text_is_cut_off() -> None:
    """A shortened text has the allowed length and says that something is missing."""
    assert shortened("x" * MAX_CALL_TEXT) == "x" * MAX_CALL_TEXT
    assert shortened("x" * 5000) == "x" * (MAX_CALL_TEXT - 1) + "…"
    assert shortened("a\n" * 100).count("\n") == MAX_CALL_LINES - 1
