"""Limits on the size of a template, and the CPU time of the check of the largest templates allowed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from templates.check import MAX_PROBLEMS, check_document
from templates.parameters import MAX_LEVELS, matches, read_parameters
from templates.size import ENTRIES, MAX_CHARACTERS, MAX_VALUES, TEXTS, oversized
from templates.storable import MAX_DEPTH

MAX_CPU_S = 1.0
"""CPU time that no check may need, several times what the slowest one needs on a slow machine."""

WORDS = [f"word{n}" for n in range(600)]


def http(index: int, **more: Any) -> dict[str, Any]:
    """Return an HTTP function."""
    return {"type": "http", "name": f"f{index}", "url": "https://example.com/", "description": "x", **more}


def words(index: int, count: int) -> str:
    """Return a text of distinctive words, another one for each index."""
    return " ".join(WORDS[(index * 7 + n * 13) % 600] for n in range(count))


def parameters(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a function's parameters."""
    return {"type": "object", "properties": properties, **more}


LARGEST: dict[str, Callable[[], dict[str, Any]]] = {
    "url_of_braces": lambda: {"functions": [http(n, url="https://x.org/" + "{{" * 1000) for n in range(100)]},
    "prompt_of_braces": lambda: {"prompt": "{{ a" * 25_000},
    "prompt_of_placeholders": lambda: {"prompt": "".join(f"{{{{ a{n} }}}}" for n in range(9000))},
    "similar_routes": lambda: {
        "kind": "orchestrator",
        "routes": [{"name": f"r{n}", "when": words(n, 300)} for n in range(100)],
    },
    "similar_functions": lambda: {"functions": [http(n, description=words(n, 300)) for n in range(100)]},
    "required_objects": lambda: {
        "functions": [
            http(n, parameters=parameters({}, required=[{"a": m} for m in range(200)])) for n in range(20)
        ]
    },
    "patterns": lambda: {
        "functions": [
            http(n, parameters=parameters({"a": {"pattern": rf"(\pL{{{n + 100}}}){{4}}"}})) for n in range(50)
        ]
    },
    "references": lambda: {
        "functions": [
            http(
                n,
                parameters=parameters(
                    {f"a{m}": {"$ref": "#/$defs/x"} for m in range(40)},
                    **{"$defs": {"x": {"allOf": [{"type": "string"}] * 12}}},
                ),
            )
            for n in range(60)
        ]
    },
    "unknown_fields": lambda: {
        "variables": [{"name": "a", **{f"descriptiom{m}": 1 for m in range(45)}} for _ in range(200)]
    },
    "wrong_types": lambda: {
        "flow": {"initial_node": "a", "nodes": {f"n{n}": {"functions": [5] * 15} for n in range(500)}}
    },
    "nodes": lambda: {
        "flow": {
            "initial_node": "n0",
            "nodes": {
                f"n{n}": {"functions": [{"name": f"g{m}", "transition_to": f"n{n + m}"} for m in range(4)]}
                for n in range(500)
            },
        }
    },
}


@pytest.mark.parametrize("kind", LARGEST)
def test_check_of_the_largest_template_takes_bounded_cpu_time(kind: str) -> None:
    """Whatever a template of the largest size contains, its check takes less than a second of CPU time."""
    document = {"name": "x", **LARGEST[kind]()}
    assert oversized(document) == []
    began = time.thread_time()
    _, report = check_document(document)
    assert time.thread_time() - began < MAX_CPU_S
    assert len(report.errors) <= MAX_PROBLEMS
    assert len(report.warnings) <= MAX_PROBLEMS


@pytest.mark.parametrize(
    "document",
    [
        {"prompt": "x" * (TEXTS["prompt"] + 1)},
        {"routes": [{"name": "a"}] * (ENTRIES["routes"] + 1)},
        {"functions": [http(0, url="{{" * 20_000)]},
        {"variables": [{"name": "a", "default": [[0] * 100] * 6}]},
        {"flow": {"nodes": {f"n{n}": {"functions": [{"name": "a"}] * 20} for n in range(MAX_VALUES // 30)}}},
        {"description": ["x" * 4000] * (MAX_CHARACTERS // 4000 + 1)},
    ],
)
def test_template_that_is_too_large_is_refused_before_other_rules(document: dict[str, Any]) -> None:
    """A document that is larger than allowed gets only problems of its size, and cannot be saved."""
    content, report = check_document(document)
    assert content is None
    assert {problem.code for problem in report.errors} == {"too_large"}
    assert report.warnings == ()


def test_nested_document_is_refused_at_the_limit() -> None:
    """Levels below the limit are not visited."""
    document: dict[str, Any] = {}
    inner = document
    for _ in range(100_000):
        inner["in"] = inner = {}
    [(path, _)] = oversized(document)
    assert len(path) == MAX_DEPTH


def test_chain_of_a_thousand_references_is_a_fault() -> None:
    """1,000 references that lead to each other are a problem with a code, not an exception."""
    links = {f"l{n}": {"$ref": f"#/$defs/l{n + 1}"} for n in range(1000)}
    schema = parameters({"a": {"$ref": "#/$defs/l0"}}, **{"$defs": {**links, "l1000": {}}})
    assert [fault.kind for fault in read_parameters(schema).faults] == ["deep"]


def test_levels_up_to_the_limit_are_read() -> None:
    """A schema has as many levels as allowed; one level more is a fault."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(MAX_LEVELS - 2):
        schema = {"type": "array", "items": schema}
    assert read_parameters(parameters({"a": schema})).faults == ()
    deeper = read_parameters(parameters({"a": {"type": "array", "items": schema}}))
    assert [fault.kind for fault in deeper.faults] == ["deep"]


def test_patterns_use_little_memory() -> None:
    """A pattern whose automaton is large does not compile, so that no cache can keep it."""
    schema = parameters({"a": {"type": "string", "pattern": r"(\pL{100}){4}"}})
    assert [fault.kind for fault in read_parameters(schema).faults] == ["pattern"]
    assert matches(r"(\pL{100}){4}", "")
