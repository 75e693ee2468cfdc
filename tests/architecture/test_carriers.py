"""What is particular to a carrier is in its package: a third one touches one folder and the registry."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("twilio", "exotel")
ALLOWED = {
    "voicebot/carriers.py",  # the registry
}


def _mentions(path: Path) -> set[str]:
    """The identifiers, imports and texts of a module that contain a carrier's name, without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {
        id(node.value) for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }  # fmt: skip
    texts: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in docs:
                texts.add(text)
            case ast.Name(id=text) | ast.Attribute(attr=text) | ast.ImportFrom(module=str(text)):
                texts.add(text)
    return {text for text in texts if any(name in text.lower() for name in NAMES)}


@pytest.mark.parametrize("package", ["voicebot", "db", "handlers", "templates", "telephony"])
def test_no_module_outside_a_carriers_package_names_a_carrier(package: str) -> None:
    """But the registry, and the sandbox."""
    found = {
        relative: sorted(mentions)
        for path in (ROOT / package).rglob("*.py")
        if (relative := path.relative_to(ROOT).as_posix()) not in ALLOWED
        and not relative.startswith(("voicebot/sandbox/", *(f"telephony/{name}/" for name in NAMES)))
        and (mentions := _mentions(path))
    }
    assert not found
