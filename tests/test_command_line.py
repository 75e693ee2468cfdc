"""The command line as a whole: its list of commands."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from db import accounts
from db.pool import Database
from tests.api.processes import VOICEBOT, start
from voicebot.cli import (
    ACCOUNT_COMMANDS,
    IMPORT_COMMANDS,
    JOURNAL_COMMANDS,
    KEY_COMMANDS,
    LAZY_COMMANDS,
    NUMBER_COMMANDS,
    LazyCommand,
    app,
)

EVERY_COMMAND = [
    pytest.param(lazy, id=f"{group}{name}")
    for group, commands in (
        ("", LAZY_COMMANDS),
        ("accounts ", ACCOUNT_COMMANDS),
        ("keys ", KEY_COMMANDS),
        ("numbers ", NUMBER_COMMANDS),
        ("journal ", JOURNAL_COMMANDS),
        ("import ", IMPORT_COMMANDS),
    )
    for name, lazy in commands.items()
]

PIPELINE = {"pipecat", "openai", "deepgram", "numpy", "aiohttp", "fastapi", "uvicorn", "httpx", "jsonschema"}
"""Packages of the server and the voice pipeline, which take seconds to import."""
DATABASE = {"asyncpg", "pydantic_settings", "cryptography", "loguru"}


def test_help_lists_every_command() -> None:
    """`voicebot --help` names all commands, whether they are imported or not."""
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    for name in (*LAZY_COMMANDS, "accounts", "keys", "numbers", "journal"):
        assert f" {name} " in shown, name


@pytest.mark.parametrize("lazy", EVERY_COMMAND)
def test_the_list_has_the_help_of_the_command(lazy: LazyCommand) -> None:
    """The text that stands for a command in the list is the first line of its own help."""
    function = getattr(import_module(lazy.module), lazy.function)
    assert function.__doc__.partition("\n")[0] == lazy.help


def test_an_unknown_command_is_refused() -> None:
    """A name that is no command ends with status 2 and a message."""
    result = CliRunner().invoke(app, ["chekc"])
    assert result.exit_code == 2
    assert "No such command" in result.output


async def imported_by(*arguments: str, cwd: Path, database: Database | None = None) -> set[str]:
    """Return the packages that a command imports in a process of its own; the command must succeed."""
    environment = {"DATABASE_URL": database.dsn} if database else {}
    command = (sys.executable, "-X", "importtime", *VOICEBOT[1:], *arguments)
    process = await start(command, environment, cwd)
    out, errors = await process.communicate()
    assert process.returncode == 0, out.decode() + errors.decode()
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in errors.decode().splitlines()}


@pytest.mark.parametrize("arguments", [("--help",), ("accounts", "--help"), ("keys", "--help")])
async def test_help_imports_neither_the_pipeline_nor_the_database(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """A list of commands is printed without importing any command."""
    assert not await imported_by(*arguments, cwd=tmp_path) & (PIPELINE | DATABASE)


@pytest.mark.parametrize("arguments", [("migrate",), ("accounts", "create", "--name", "Acme", "--json")])
async def test_a_database_command_does_not_import_the_pipeline(
    database: Database, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """A command that only talks to the database imports no package of the server."""
    imported = await imported_by(*arguments, cwd=tmp_path, database=database)
    assert "asyncpg" in imported
    assert not imported & PIPELINE


@pytest.mark.parametrize(
    "arguments",
    [
        ("accounts", "list"),
        ("keys", "create", "--account", "01a1fb64-16ef-7341-baef-1bff17f7b0e5", "--role", "owner"),
        ("migrate",),
        ("pull", "templates"),
        ("chat", "Front desk", "--sandbox"),
    ],
)
def test_no_database_is_made_in_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """A command that is run where there is no database names the data directory, and makes nothing."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "VOICEBOT_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code in (1, 2)
    assert str(tmp_path / ".voicebot") in result.output
    assert list(tmp_path.iterdir()) == []


async def test_accounts_are_listed(database: Database, tmp_path: Path) -> None:
    """`voicebot accounts list` prints id and name of every account."""
    account = await accounts.create(database, "Acme")
    process = await start((*VOICEBOT, "accounts", "list", "--json"), {"DATABASE_URL": database.dsn}, tmp_path)
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    listed = json.loads(out)["accounts"]
    assert {"account_id": str(account.id), "name": "Acme"}.items() <= listed[0].items()
