"""The guide on templates in git is correct."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from templates.sets import check_set, read_text
from voicebot.cli import app

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "templates-in-git.md"
TEXT = GUIDE.read_text(encoding="utf-8")
OTHERS = {"chat", "test"}


def test_template_of_the_guide() -> None:
    """The template of the guide passes the check, together with the agent that it names."""
    [template, _] = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    billing = {
        "name": "Acme billing",
        "description": "Invoices.",
        "status": "active",
        "prompt": "You are Ada.",
    }
    checked, _ = check_set([read_text(template).document, billing])
    assert (checked.report.errors, checked.report.warnings) == ((), ())


def test_options_of_the_guide() -> None:
    """Every command of the guide exists, with every option that the guide uses."""
    lines = [
        line.partition("#")[0]
        for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
        for line in block.splitlines()
    ]
    used = [
        (command, set(re.findall(r"--[a-z-]+", rest)))
        for line in lines
        for command, rest in re.findall(r"voicebot (\w+)([^&]*)", line)
        if command not in OTHERS
    ]
    used += [
        ("push", {"--prune", "--dry-run", "--force", "--secrets", "--account"}),
        ("pull", {"--prune", "--force"}),
        ("check", {"--json"}),
    ]
    assert {command for command, _ in used} >= {"check", "pull", "push", "diff"}
    for command, options in used:
        result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "300", "TERM": "dumb"})
        assert result.exit_code == 0, command
        assert {each for each in options if each not in result.output} == set(), command
