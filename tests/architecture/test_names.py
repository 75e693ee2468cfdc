"""Names in code are the field's terms; a metaphor that was replaced must not return."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("voicebot", "handlers", "templates", "telephony", "db", "tests")

BANNED = frozenset(
    {
        "breakdown", "caretaker", "courier", "diary", "entrance", "errand", "errands", "estate",
        "fate", "flight", "furnish", "house", "housekeeper", "hub", "itinerary", "keeper", "ledger",
        "mouth", "neighbourhood", "reception", "rig", "scribe", "surroundings", "survey",
        "switchboard", "theatre", "witness", "workshop",
    }
)  # fmt: skip
"""Words that were used as metaphors in names. The replacements are in docs/glossary.md."""


def identifiers(tree: ast.AST) -> Iterator[str]:
    """Every name that a module defines, imports or uses."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.keyword(arg=str(name)):
                yield name
            case ast.alias(name=name, asname=alias):
                yield from (alias or name).split(".")


def words(name: str) -> set[str]:
    """The lower-case words of a name in snake case, camel case or capitals."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+", name)}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_name_is_a_banned_metaphor(package: str) -> None:
    """No module, class, function or variable has a banned word in its name."""
    found = {
        f"{path.relative_to(ROOT).as_posix()}: {name}"
        for path in (ROOT / package).rglob("*.py")
        for name in (path.stem, path.parent.name, *identifiers(ast.parse(path.read_text(encoding="utf-8"))))
        if words(name) & BANNED
    }
    assert not found
