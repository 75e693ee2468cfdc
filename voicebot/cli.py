"""The commands that people type. Each opens what it needs, does one thing, and says what it did."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar
from uuid import UUID

import typer

from db import accounts as account_rows
from db import audit
from db import keys as key_rows
from db.audit import Change
from db.errors import DatabaseError
from db.pool import Database
from voicebot import startup
from voicebot.database import open_database
from voicebot.handoffs import journal_files

ResultT = TypeVar("ResultT")

app = typer.Typer(
    name="voicebot",
    help="Voice agents for phone calls that are routed mid-call between authored agents.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
accounts = typer.Typer(help="Accounts: everything belongs to one.", no_args_is_help=True)
keys = typer.Typer(help="API keys.", no_args_is_help=True)
app.add_typer(accounts, name="accounts")
app.add_typer(keys, name="keys")
journal = typer.Typer(help="The journal of handoffs.", no_args_is_help=True)
app.add_typer(journal, name="journal")

AsJson = Annotated[bool, typer.Option("--json", help="Answer in one line of JSON.")]


class RoleName(StrEnum):
    """What a key allows."""

    OWNER = "owner"
    ADMIN = "admin"
    AUTHOR = "author"
    OPERATOR = "operator"
    VIEWER = "viewer"


@app.command()
def serve() -> None:
    """Take calls until told to stop."""
    # A program of its own, in this one's place: what it has to load would slow every other command down.
    os.execv(sys.executable, [sys.executable, "-m", "voicebot.server"])  # noqa: S606 - no shell is wanted


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def demo(context: typer.Context) -> None:
    """Place a real call, routed mid-call, without any vendor's key (needs the extra `sandbox`)."""
    os.execv(sys.executable, [sys.executable, "-m", "voicebot.sandbox.demo", *context.args])  # noqa: S606


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def chat(context: typer.Context) -> None:
    """Talk to a template in text, drafts included: the flow, functions and routes of a telephone call."""
    os.execv(sys.executable, [sys.executable, "-m", "voicebot.simulate", "chat", *context.args])  # noqa: S606


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def test(context: typer.Context) -> None:
    """Play scripted conversations with templates, and tell what was not as expected."""
    os.execv(sys.executable, [sys.executable, "-m", "voicebot.simulate", "test", *context.args])  # noqa: S606


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def check(context: typer.Context) -> None:
    """Say everything that is wrong with template files."""
    os.execv(sys.executable, [sys.executable, "-m", "voicebot.sync", "check", *context.args])  # noqa: S606


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def pull(context: typer.Context) -> None:
    """Write an account's templates into a folder, one file each."""
    os.execv(sys.executable, [sys.executable, "-m", "voicebot.sync", "pull", *context.args])  # noqa: S606


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def push(context: typer.Context) -> None:
    """Save a folder's templates in an account, all or none."""
    os.execv(sys.executable, [sys.executable, "-m", "voicebot.sync", "push", *context.args])  # noqa: S606


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def diff(context: typer.Context) -> None:
    """Show what differs between an account and a folder."""
    os.execv(sys.executable, [sys.executable, "-m", "voicebot.sync", "diff", *context.args])  # noqa: S606


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def schema(context: typer.Context) -> None:
    """Print the JSON Schema of template files, for an editor's completion."""
    os.execv(sys.executable, [sys.executable, "-m", "voicebot.sync", "schema", *context.args])  # noqa: S606


@app.command()
def migrate() -> None:
    """Bring the database's schema up to date (`serve` does so by itself)."""

    async def nothing_more(_: Database) -> None:
        return None

    _with_database(nothing_more)
    typer.echo("The schema is up to date.")


@accounts.command("create")
def create_account(
    name: Annotated[str, typer.Option(help="For people; need not be unique.")], as_json: AsJson = False
) -> None:
    """Make an account."""

    async def work(database: Database) -> UUID:
        async with database.transaction() as transaction:
            account_id = (await account_rows.create(transaction, name)).id
            change = Change(key_id=None, action="create", resource="account", resource_id=account_id)
            await audit.record(transaction, account_id, change)
        return account_id

    account_id = _with_database(work)
    _say({"account_id": str(account_id)}, as_json, f"Made account {account_id}.")


@keys.command("create")
def create_key(
    account: Annotated[UUID, typer.Option(help="The account's id.")],
    role: Annotated[RoleName, typer.Option(help="What the key allows.")],
    label: Annotated[str, typer.Option(help="For people.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make an API key. It is shown once."""

    async def work(database: Database) -> key_rows.CreatedKey:
        async with database.transaction() as transaction:
            made = await key_rows.create(transaction, account, role.value, label=label)
            data = {"role": role.value}
            change = Change(
                key_id=None, action="create", resource="key", resource_id=made.record.id, data=data
            )
            await audit.record(transaction, account, change)
        return made

    made = _with_database(work)
    _say({"key_id": str(made.record.id), "key": made.key}, as_json, f"Made key {made.record.id}: {made.key}")


@journal.command("verify")
def verify_journal(
    directory: Annotated[
        Path | None, typer.Argument(help="Where its files are; by default those of this server.")
    ] = None,
) -> None:
    """Say whether every line is as it was written; names the first that is altered, missing or moved."""
    place = directory or startup.settings().data_dir / "journal"
    try:
        lines = journal_files.verify(place)
    except (journal_files.JournalBroken, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{lines} lines, none altered, missing or moved.")


def _with_database(work: Callable[[Database], Awaitable[ResultT]]) -> ResultT:
    settings = startup.settings()

    async def opened() -> ResultT:
        async with open_database(settings) as database:
            return await work(database)

    with _plainly():
        return asyncio.run(opened())


@contextlib.contextmanager
def _plainly() -> Iterator[None]:
    """What the database refuses is said in a line, without a traceback."""
    try:
        yield
    except DatabaseError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def _say(facts: Mapping[str, str], as_json: bool, words: str) -> None:
    typer.echo(json.dumps(facts, separators=(",", ":")) if as_json else words)
