from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("voicebot", "handlers", "templates", "telephony", "db")
FORBIDDEN_NAMES = {"utils", "helpers", "manager", "service", "v2"}
READS_THE_ENVIRONMENT = {"environ", "getenv", "environb"}


def modules() -> Iterator[Path]:
    """Every module of the program."""
    for package in PACKAGES:
        yield from (ROOT / package).rglob("*.py")


def test_rooms_are_entered_by_their_doors() -> None:
    """The import contracts of pyproject.toml hold."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    linting = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert linting.returncode == 0, linting.stdout


def test_only_the_settings_read_the_environment() -> None:
    """No module but voicebot.config asks the environment for anything (the sandbox hands it on)."""
    readers = {
        path.relative_to(ROOT).as_posix()
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in READS_THE_ENVIRONMENT
    }
    assert not {reader for reader in readers if not reader.startswith("voicebot/sandbox/")}


def test_no_module_is_named_for_nothing() -> None:
    """No module or package is called by a name that says nothing of what is in it."""
    assert not [path for path in modules() if {*path.relative_to(ROOT).parts, path.stem} & FORBIDDEN_NAMES]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_say_what_they_are(package: str) -> None:
    """Every module with something in it begins with a docstring."""
    undescribed = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / package).rglob("*.py")
        if path.read_text(encoding="utf-8").strip()
        and ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is None
    ]
    assert not undescribed
