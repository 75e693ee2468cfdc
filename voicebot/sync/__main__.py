"""`voicebot check`, `pull`, `push`, `diff` and `schema` become `python -m voicebot.sync`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from db.errors import DatabaseError
from templates.schema import file_schema
from templates.sets import CheckedTemplate, SetContext, check_set
from voicebot import logs, startup
from voicebot.authoring import BUILTINS, Authoring, check_around
from voicebot.authoring.files import BadFiles, read_files
from voicebot.config import Settings
from voicebot.database import WhichAccount, only_account, open_database
from voicebot.providers.registry import VARIABLES, Providers
from voicebot.sync import check_report
from voicebot.sync.account import Account, Refused, Unreachable
from voicebot.sync.api_account import ApiAccount
from voicebot.sync.database_account import DatabaseAccount
from voicebot.sync.diff import compare
from voicebot.sync.pull import TOLD, Pull
from voicebot.sync.pull import pull as pull_into
from voicebot.sync.push import Push, Pushed, faults_of
from voicebot.sync.push import push as push_from
from voicebot.sync.secrets import read_secrets, unused
from voicebot.sync.working_folder import WorkingFolder
from voicebot.vault import Vault

DIFFERENT, WRONG = 1, 2

app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False)

_FOLDER = "A folder of template files."
Folder = Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, exists=True, help=_FOLDER)]
NewFolder = Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help=_FOLDER)]
Chosen = Annotated[UUID | None, typer.Option("--account", help="Its id; needed where there are several.")]
_SERVER = (
    "A server, such as https://voice.example.com; VOICEBOT_API_KEY holds the key. "
    "Left out: the database of the settings."
)
Url = Annotated[str | None, typer.Option(help=_SERVER)]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")]


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Template files, or folders of them.")],
    in_account: Annotated[
        bool, typer.Option("--in-account", help="Look at the account's templates and numbers, too.")
    ] = False,
    account: Chosen = None,
    as_json: AsJson = False,
) -> None:
    """Say everything that is wrong with templates. Ends with 1 for errors, with 2 for unreadable files."""

    async def work() -> None:
        try:
            written = read_files(files)
        except BadFiles as error:
            if not as_json:
                raise
            faults = [
                {"file": str(each.path), "line": each.line, "message": str(each)} for each in error.faults
            ]
            print(json.dumps({"ok": False, "faults": faults}, ensure_ascii=False))
            raise typer.Exit(WRONG) from None
        checked = await _checked([each.document for each in written], in_account, account)
        if as_json:
            print(json.dumps(check_report.as_json(written, checked), ensure_ascii=False))
        else:
            print("\n".join(check_report.report(written, checked)))
        if not all(each.report.ok for each in checked):
            raise typer.Exit(DIFFERENT)

    _run(work())


@app.command()
def pull(
    folder: NewFolder,
    url: Url = None,
    account: Chosen = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what was changed here.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove templates that the server has no longer.")
    ] = False,
) -> None:
    """Write the account's templates into a folder, one file each. Ends with 1 if something clashes."""

    async def work() -> None:
        async with _opened(url, account) as there:
            schema = _schema()
            done = await pull_into(WorkingFolder(folder), there, Pull(force=force, prune=prune), schema)
        for name, step in done.steps:
            print(f"{name}: {TOLD[step]}")
        if not done.steps:
            print("Nothing has changed.")
        if done.clashed:
            raise typer.Exit(DIFFERENT)

    _run(work())


@app.command()
def push(
    folder: Folder,
    url: Url = None,
    account: Chosen = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite what others have saved on the server since.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete on the server what was pulled once and is gone here.")
    ] = False,
    secrets: Annotated[
        Path | None, typer.Option(help="A file (not in git) of what goes where a template says `***`.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Save a folder's templates in the account, all or none. Ends with 1 if they were refused."""

    async def work() -> None:
        here = WorkingFolder(folder)
        given = read_secrets(secrets) if secrets else {}
        wish = Push(force=force, prune=prune, dry_run=dry_run, secrets=given)
        async with _opened(url, account) as there:
            try:
                done = await push_from(here, there, wish)
            except Refused as error:
                lines = map(str, faults_of(error, here.written))
                print("\n".join([*lines, str(error)]), file=sys.stderr)
                raise typer.Exit(DIFFERENT) from None
        print("\n".join(_told(done, dry_run)))
        for each in unused([one.document for one in here.written], given):
            print(f"No template here asks for the secret {each}.", file=sys.stderr)

    _run(work())


@app.command()
def diff(folder: Folder, url: Url = None, account: Chosen = None) -> None:
    """Show what differs between the account (-) and a folder (+). Ends with 1 if anything does."""

    async def work() -> None:
        async with _opened(url, account) as there:
            lines = await compare(WorkingFolder(folder), there)
        if lines:
            print("\n".join(lines))
            raise typer.Exit(DIFFERENT)

    _run(work())


@app.command()
def schema() -> None:
    """Print the JSON Schema of template files, for an editor's completion."""
    print(json.dumps(_schema(), ensure_ascii=False, indent=2))


def _told(pushed: Pushed, dry_run: bool) -> list[str]:
    would = "would be " if dry_run else ""
    told = [f"{each.name}: {would}{each.action}" for each in pushed.done if each.action != "unchanged"]
    told += [
        f"{each.name}: a draft with {each.problems} errors (voicebot check tells them)"
        for each in pushed.done
        if each.problems
    ]
    told += [f"{name}: {would}deleted" for name in pushed.deleted]
    told += [f"{name}: not here, but on the server (--prune deletes it)" for name in pushed.left]
    return told or ["Nothing has changed."]


async def _checked(documents: Sequence[Any], in_account: bool, account: UUID | None) -> list[CheckedTemplate]:
    settings = _settings()
    if not in_account and account is None:
        # Keys that this machine lacks say nothing about the server that the files are for.
        providers = Providers(settings).rules(configured=False)
        context = SetContext(builtins=BUILTINS, http_allow=settings.http_allow, providers=providers)
        return check_set(documents, context)
    async with open_database(settings) as database:
        account_id = account or await only_account(database)
        return await check_around(
            database, account_id, documents, settings.http_allow, Providers(settings).rules()
        )


@contextlib.asynccontextmanager
async def _opened(url: str | None, account: UUID | None) -> AsyncIterator[Account]:
    settings = _settings()
    if url is not None:
        if settings.api_key is None:
            raise Unreachable("Set VOICEBOT_API_KEY to a key of the account (voicebot keys create).")
        server = ApiAccount(url, settings.api_key.get_secret_value())
        try:
            yield server
        finally:
            await server.close()
        return
    async with open_database(settings) as database:
        authoring = Authoring(
            database,
            Vault(settings.fernet_key()),
            http_allow=settings.http_allow,
            providers=Providers(settings).rules(),
        )
        yield DatabaseAccount(database, authoring, account or await only_account(database))


def _schema() -> dict[str, Any]:
    return file_schema(builtins=BUILTINS, providers=Providers(_settings()).rules())


def _settings() -> Settings:
    settings = startup.settings(*VARIABLES)
    logs.configure("WARNING")
    return settings


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run a command; what is wrong is said in a few lines, without a traceback."""
    try:
        asyncio.run(work)
    except (BadFiles, DatabaseError, Refused, Unreachable, WhichAccount) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(WRONG) from None


if __name__ == "__main__":
    app(prog_name="voicebot")
