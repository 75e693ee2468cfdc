"""The guide of templates in git says what is so."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from templates.sets import check_set, read_text
from voicebot.sync.__main__ import app

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "templates-in-git.md"
TEXT = GUIDE.read_text(encoding="utf-8")
OTHERS = {"chat", "test"}


def test_the_guide_s_template_is_in_order() -> None:
    """The template that the guide shows has no fault, beside the agent it names."""
    [template, _] = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    billing = {
        "name": "Acme billing",
        "description": "Invoices.",
        "status": "active",
        "prompt": "You are Ada.",
    }
    checked, _ = check_set([read_text(template).document, billing])
    assert (checked.report.errors, checked.report.warnings) == ((), ())


def test_the_guide_s_options_exist() -> None:
    """Every command of the guide is there, with every option that the guide gives it."""
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
        helped = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "300", "TERM": "dumb"})
        assert helped.exit_code == 0, command
        assert {each for each in options if each not in helped.output} == set(), command
