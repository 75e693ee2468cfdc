"""The command line as a whole: its list of commands."""

from __future__ import annotations

from importlib import import_module

import pytest
from typer.testing import CliRunner

from voicebot.cli import LAZY_COMMANDS, LazyCommand, app


def test_help_lists_every_command() -> None:
    """`voicebot --help` names all commands, whether they are imported or not."""
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    for name in (*LAZY_COMMANDS, "migrate", "accounts", "keys", "numbers", "journal"):
        assert f" {name} " in shown, name


@pytest.mark.parametrize("lazy", LAZY_COMMANDS.values(), ids=LAZY_COMMANDS)
def test_the_list_has_the_help_of_the_command(lazy: LazyCommand) -> None:
    """The text that stands for a command in the list is the first line of its own help."""
    function = getattr(import_module(lazy.module), lazy.function)
    assert function.__doc__.partition("\n")[0] == lazy.help


def test_an_unknown_command_is_refused() -> None:
    """A name that is no command ends with status 2 and a message."""
    result = CliRunner().invoke(app, ["chekc"])
    assert result.exit_code == 2
    assert "No such command" in result.output
