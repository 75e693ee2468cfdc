"""Commands that need only the settings and the database: accounts, keys, the journal, migrations."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar
from uuid import UUID

import typer

from db import accounts as account_rows
from db import audit
from db import journal as journal_rows
from db import keys as key_rows
from db import numbers as number_rows
from db.audit import Change
from db.errors import DatabaseError
from db.journal import PartRecord
from db.pool import Database
from voicebot import startup
from voicebot.database import NoDatabase, has_database, open_database
from voicebot.handoffs import journal_report
from voicebot.handoffs.journal_chain import JournalBroken, JournalKeys
from voicebot.handoffs.journal_verification import is_here
from voicebot.reencryption import Reencryption
from voicebot.vault import Vault

ResultT = TypeVar("ResultT")

MAX_ACCOUNTS = 10_000
"""Maximum number of accounts in a list."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]


class RoleName(StrEnum):
    """The roles of keys."""

    OWNER = "owner"
    ADMIN = "admin"
    AUTHOR = "author"
    OPERATOR = "operator"
    VIEWER = "viewer"


def migrate() -> None:
    """Bring the database's schema up to date; `serve` does so when it starts."""

    async def no_work(_: Database) -> None:
        return None  # Opening the database has migrated it.

    _with_database(no_work)
    typer.echo("The schema is up to date.")


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

    account_id = _with_database(work, create=True)
    _print({"account_id": str(account_id)}, as_json, f"Created account {account_id}.")


def list_accounts(as_json: AsJson = False) -> None:
    """List the accounts, oldest first."""

    async def work(database: Database) -> Sequence[account_rows.AccountRecord]:
        return await account_rows.oldest(database, MAX_ACCOUNTS)

    found = _with_database(work)
    if as_json:
        items = [
            {"account_id": str(each.id), "name": each.name, "created_at": each.created_at.isoformat()}
            for each in found
        ]
        typer.echo(json.dumps({"accounts": items}, ensure_ascii=False, separators=(",", ":")))
        return
    for each in found:
        typer.echo(f"{each.id}  {each.created_at:%Y-%m-%d}  {each.name}")
    if not found:
        typer.echo("There is no account; create one with `voicebot accounts create`.", err=True)


def create_key(
    account: Annotated[UUID, typer.Option(help="The account's id.")],
    role: Annotated[RoleName, typer.Option(help="What the key allows.")],
    label: Annotated[str, typer.Option(help="For display.")] = "",
    user: Annotated[
        UUID | None, typer.Option(help="The id of the user whom the key acts for, such as an operator.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create an API key. It is shown once."""

    async def work(database: Database) -> key_rows.CreatedKey:
        async with database.transaction() as transaction:
            created = await key_rows.create(transaction, account, role.value, label=label, user_id=user)
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


def reencrypt_secrets(as_json: AsJson = False) -> None:
    """Encrypt stored secrets with the first key of VOICEBOT_SECRET_KEY: the others can be removed.

    Exit status: 1 if none of the keys can decrypt a secret.
    """
    reencryption = Reencryption(Vault(*startup.settings().fernet_keys()))
    _with_database(reencryption.run)
    counts = (reencryption.reencrypted, reencryption.current, reencryption.unreadable)
    facts = dict(zip(("reencrypted", "current", "unreadable"), counts, strict=True))
    text = "{} encrypted again, {} encrypted with the first key already, {} unreadable.".format(*counts)
    _print(facts, as_json, text)
    if reencryption.unreadable:
        raise typer.Exit(1)


def forget_journal(
    part: Annotated[UUID, typer.Argument(help="Its id, as `voicebot journal verify` prints it.")],
    as_json: AsJson = False,
) -> None:
    """Remove a lost directory of the journal from the register, so that `verify` does not miss it.

    Exit status: 1 if there is no such directory, or if it is on this host.
    """
    settings = startup.settings()

    async def work(database: Database) -> PartRecord | None:
        found = (await journal_rows.parts(database)).get(part)
        if found is not None and not is_here(found):
            await journal_rows.forget_part(database, part)
        return found

    found = _with_database(work) if has_database(settings) else None
    if found is None or is_here(found):
        why = "is on this host" if found else "is not in the register"
        typer.echo(f"The directory {part} {why}.", err=True)
        raise typer.Exit(1)
    facts = {"part_id": str(part), "host": found.host, "directory": found.directory, "lines": found.last_line}
    text = (
        f"Removed {found.directory} on {found.host}: up to line {found.last_line}, nothing proves its lines."
    )
    _print(facts, as_json, text)


def verify_journal(
    directories: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Directories of its files, such as copies of other hosts'; this host's are found."
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not compare the ends of the directories with the database.")
    ] = False,
) -> None:
    """Verify that no line of the journal was altered, removed or moved; name the first that was."""
    settings = startup.settings()
    own = settings.data_dir / "journal"
    given = directories or ([own] if own.is_dir() else [])
    keys = JournalKeys(settings.fernet_keys(create=False))
    known = None if offline or not has_database(settings) else _with_database(journal_rows.parts)
    try:
        report = journal_report.verify(given, keys, known)
    except (JournalBroken, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo("\n".join(report.lines))
    if not report.complete:
        raise typer.Exit(1)


def _with_database(work: Callable[[Database], Awaitable[ResultT]], *, create: bool = False) -> ResultT:
    settings = startup.settings()

    async def run() -> ResultT:
        async with open_database(settings, create=create) as database:
            return await work(database)

    with _errors_in_one_line():
        return asyncio.run(run())


@contextlib.contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Print an error of the database in one line, without a traceback."""
    try:
        yield
    except (DatabaseError, NoDatabase) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def _print(facts: Mapping[str, object], as_json: bool, text: str) -> None:
    typer.echo(json.dumps(facts, separators=(",", ":")) if as_json else text)
