"""The command line.

The commands of ``LAZY_COMMANDS`` are imported when they are run, so that the others, and ``--help``, need not
load the server or the voice pipeline.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeVar
from uuid import UUID

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from db import accounts as account_rows
from db import audit
from db import keys as key_rows
from db import numbers as number_rows
from db.audit import Change
from db.errors import DatabaseError
from db.pool import Database
from voicebot import startup
from voicebot.database import open_database
from voicebot.handoffs import journal_files

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """A command whose module is imported when it is run."""

    module: str
    function: str
    help: str
    """The first line of the function's docstring."""


LAZY_COMMANDS: Mapping[str, LazyCommand] = {
    "serve": LazyCommand("voicebot.server", "main", "Take calls until stopped by SIGTERM or SIGINT."),
    "demo": LazyCommand(
        "voicebot.sandbox.demo.__main__",
        "main",
        "Place a call with the sandbox, without any vendor's key (needs the extra `sandbox`).",
    ),
    "chat": LazyCommand("voicebot.simulate.commands", "chat", "Talk to a template in text, drafts included."),
    "test": LazyCommand(
        "voicebot.simulate.commands",
        "run_script",
        "Run scripted conversations, and report what was not as expected.",
    ),
    "check": LazyCommand("voicebot.sync.commands", "check", "Check template files."),
    "pull": LazyCommand(
        "voicebot.sync.commands", "pull", "Write an account's templates into a directory, one file each."
    ),
    "push": LazyCommand(
        "voicebot.sync.commands", "push", "Save a directory's templates in an account, all or none."
    ),
    "diff": LazyCommand(
        "voicebot.sync.commands", "diff", "Show the differences between an account (-) and a directory (+)."
    ),
    "schema": LazyCommand(
        "voicebot.sync.commands", "schema", "Print the JSON Schema of template files, for editors."
    ),
}


class _Unloaded(TyperCommand):
    """Stands for a lazy command in the list of commands, and loads it to run it."""

    def __init__(self, name: str, lazy: LazyCommand) -> None:
        super().__init__(name, help=lazy.help, add_help_option=False)
        self._lazy = lazy

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the arguments as the command itself does."""
        command = typer.Typer(pretty_exceptions_show_locals=False, add_completion=False)
        command.command(self.name)(getattr(import_module(self._lazy.module), self._lazy.function))
        return get_command(command).make_context(info_name, args, parent, **extra)


class _Group(TyperGroup):
    """The commands of this module and the lazy ones."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of ``--help``."""
        return [*LAZY_COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name; None if there is none."""
        lazy = LAZY_COMMANDS.get(cmd_name)
        return _Unloaded(cmd_name, lazy) if lazy else super().get_command(ctx, cmd_name)


app = typer.Typer(
    name="voicebot",
    cls=_Group,
    help="Voice agents for phone calls that are routed mid-call between agents.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
accounts = typer.Typer(help="Accounts: everything belongs to one.", no_args_is_help=True)
keys = typer.Typer(help="API keys.", no_args_is_help=True)
numbers = typer.Typer(help="Phone numbers of accounts.", no_args_is_help=True)
journal = typer.Typer(help="The journal of handoffs.", no_args_is_help=True)
app.add_typer(accounts, name="accounts")
app.add_typer(keys, name="keys")
app.add_typer(numbers, name="numbers")
app.add_typer(journal, name="journal")

AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]


class RoleName(StrEnum):
    """The roles of keys."""

    OWNER = "owner"
    ADMIN = "admin"
    AUTHOR = "author"
    OPERATOR = "operator"
    VIEWER = "viewer"


@app.command()
def migrate() -> None:
    """Bring the database's schema up to date; `serve` does so when it starts."""

    async def no_work(_: Database) -> None:
        return None  # Opening the database has migrated it.

    _with_database(no_work)
    typer.echo("The schema is up to date.")


@accounts.command("create")
def create_account(
    name: Annotated[str, typer.Option(help="For display; need not be unique.")], as_json: AsJson = False
) -> None:
    """Create an account."""

    async def work(database: Database) -> UUID:
        async with database.transaction() as transaction:
            account_id = (await account_rows.create(transaction, name)).id
            change = Change(key_id=None, action="create", resource="account", resource_id=account_id)
            await audit.record(transaction, account_id, change)
        return account_id

    account_id = _with_database(work)
    _print({"account_id": str(account_id)}, as_json, f"Created account {account_id}.")


@keys.command("create")
def create_key(
    account: Annotated[UUID, typer.Option(help="The account's id.")],
    role: Annotated[RoleName, typer.Option(help="What the key allows.")],
    label: Annotated[str, typer.Option(help="For display.")] = "",
    as_json: AsJson = False,
) -> None:
    """Create an API key. It is shown once."""

    async def work(database: Database) -> key_rows.CreatedKey:
        async with database.transaction() as transaction:
            created = await key_rows.create(transaction, account, role.value, label=label)
            data = {"role": role.value}
            change = Change(
                key_id=None, action="create", resource="key", resource_id=created.record.id, data=data
            )
            await audit.record(transaction, account, change)
        return created

    created = _with_database(work)
    _print(
        {"key_id": str(created.record.id), "key": created.key},
        as_json,
        f"Created key {created.record.id}: {created.key}",
    )


@numbers.command("assign")
def assign_number(
    account: Annotated[UUID, typer.Option(help="The account's id.")],
    number: Annotated[str, typer.Option(help="E.164, such as +14155550100.")],
    as_json: AsJson = False,
) -> None:
    """Assign a number to an account: no other account can register it (see VOICEBOT_NUMBERS)."""

    async def work(database: Database) -> None:
        async with database.transaction() as transaction:
            await number_rows.assign(transaction, account, number)
            data = {"number": number}
            change = Change(
                key_id=None, action="assign_number", resource="account", resource_id=account, data=data
            )
            await audit.record(transaction, account, change)

    _with_database(work)
    facts = {"account_id": str(account), "number": number}
    _print(facts, as_json, f"Assigned {number} to account {account}.")


@journal.command("verify")
def verify_journal(
    directory: Annotated[
        Path | None, typer.Argument(help="The directory of its files; by default that of this server.")
    ] = None,
) -> None:
    """Verify that no line of the journal was altered, removed or moved; name the first that was."""
    path = directory or startup.settings().data_dir / "journal"
    try:
        lines = journal_files.verify(path)
    except (journal_files.JournalBroken, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{lines} lines, none altered, missing or moved.")


def _with_database(work: Callable[[Database], Awaitable[ResultT]]) -> ResultT:
    settings = startup.settings()

    async def run() -> ResultT:
        async with open_database(settings) as database:
            return await work(database)

    with _errors_in_one_line():
        return asyncio.run(run())


@contextlib.contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Print an error of the database in one line, without a traceback."""
    try:
        yield
    except DatabaseError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def _print(facts: Mapping[str, str], as_json: bool, text: str) -> None:
    typer.echo(json.dumps(facts, separators=(",", ":")) if as_json else text)
