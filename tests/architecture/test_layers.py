"""Layers and modules: import contracts, access to the environment, and module docstrings."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("voicebot", "handlers", "templates", "telephony", "db")
ENVIRONMENT_ACCESS = {"environ", "getenv", "environb"}


def modules() -> Iterator[Path]:
    """The files of all packages."""
    for package in PACKAGES:
        yield from (ROOT / package).rglob("*.py")


def test_import_contracts_hold() -> None:
    """The import-linter contracts in pyproject.toml hold."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    linting = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert linting.returncode == 0, linting.stdout


def test_only_settings_read_the_environment() -> None:
    """No module except the sandbox reads environment variables; voicebot.config uses pydantic-settings."""
    readers = {
        path.relative_to(ROOT).as_posix()
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT_ACCESS
    }
    assert not {reader for reader in readers if not reader.startswith("voicebot/sandbox/")}


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_have_docstrings(package: str) -> None:
    """Every module that is not empty begins with a docstring."""
    undescribed = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / package).rglob("*.py")
        if path.read_text(encoding="utf-8").strip()
        and ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is None
    ]
    assert not undescribed
