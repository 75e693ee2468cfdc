"""The commands `voicebot check`, `pull`, `push`, `diff` and `schema`."""

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
from handlers.registry import HANDLERS
from templates.schema import file_schema
from templates.sets import CheckedTemplate, SetContext, check_set
from voicebot import logs, startup
from voicebot.authoring import AccountLookup, Authoring
from voicebot.authoring.files import BadFiles, read_some
from voicebot.carriers import carriers_of, rules_of
from voicebot.config import Settings
from voicebot.database import AccountNotUnique, NoDatabase, only_account, open_database
from voicebot.providers.registry import VARIABLES, Providers
from voicebot.sync.account import Account, Refused, Unreachable
from voicebot.sync.api_account import ApiAccount
from voicebot.sync.database_account import DatabaseAccount
from voicebot.sync.pull import STEP_MESSAGES, PullOptions
from voicebot.sync.pull import pull as pull_into
from voicebot.sync.push import PushOptions, PushResult, faults_of
from voicebot.sync.push import push as push_from
from voicebot.sync.reports import check_as_json, check_report, diff_report
from voicebot.sync.secrets import read_secrets, unused
from voicebot.sync.template_directory import TemplateDirectory
from voicebot.vault import Vault

DIFFERENT, UNUSABLE = 1, 2
"""Exit statuses: faults or differences were found; the command could not be carried out."""

_BUILTINS = frozenset(HANDLERS)
_DIRECTORY = "A directory of template files."
Directory = Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, exists=True, help=_DIRECTORY)]
NewDirectory = Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help=_DIRECTORY)]
Chosen = Annotated[
    UUID | None, typer.Option("--account", help="The account's id; needed where there are several.")
]
_SERVER = (
    "A server, such as https://voice.example.com; VOICEBOT_API_KEY holds the key. "
    "Without it: the database of the settings."
)
Url = Annotated[str | None, typer.Option(help=_SERVER)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would happen, without changing anything.")
]


def check(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Template files, or directories of them.")
    ],
    in_account: Annotated[
        bool, typer.Option("--in-account", help="Check against the account's templates and numbers too.")
    ] = False,
    account: Chosen = None,
    as_json: AsJson = False,
) -> None:
    """Check template files.

    Exit status: 1 if there are errors, 2 if a file cannot be read.
    """

    async def work() -> None:
        try:
            sources = read_some(files)
        except BadFiles as error:
            if not as_json:
                raise
            faults = [
                {"file": str(each.path), "line": each.line, "message": str(each)} for each in error.faults
            ]
            print(json.dumps({"ok": False, "faults": faults}, ensure_ascii=False))
            raise typer.Exit(UNUSABLE) from None
        checked = await _checked([each.document for each in sources], in_account, account)
        if as_json:
            print(json.dumps(check_as_json(sources, checked), ensure_ascii=False))
        else:
            print("\n".join(check_report(sources, checked)))
        if not all(each.report.ok for each in checked):
            raise typer.Exit(DIFFERENT)

    _run(work())


def pull(
    directory: NewDirectory,
    url: Url = None,
    account: Chosen = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite local changes.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete templates that are no longer on the server.")
    ] = False,
) -> None:
    """Write an account's templates into a directory, one file each.

    Exit status: 1 if a template was changed on both sides.
    """

    async def work() -> None:
        async with _open_account(url, account) as remote:
            schema = _schema()
            result = await pull_into(
                TemplateDirectory(directory), remote, PullOptions(force=force, prune=prune), schema
            )
        for name, step in result.steps:
            print(f"{name}: {STEP_MESSAGES[step]}")
        if not result.steps:
            print("No changes.")
        if result.has_conflicts:
            raise typer.Exit(DIFFERENT)

    _run(work())


def push(
    directory: Directory,
    url: Url = None,
    account: Chosen = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite what was saved on the server since the last pull.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete templates on the server that were deleted here.")
    ] = False,
    secrets: Annotated[
        Path | None, typer.Option(help="A file (not in git) with the secrets for `***` in templates.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Save a directory's templates in an account, all or none.

    Exit status: 1 if they were refused.
    """

    async def work() -> None:
        local = TemplateDirectory(directory)
        given = read_secrets(secrets) if secrets else {}
        options = PushOptions(force=force, prune=prune, dry_run=dry_run, secrets=given)
        async with _open_account(url, account) as remote:
            try:
                result = await push_from(local, remote, options)
            except Refused as error:
                lines = map(str, faults_of(error, local.sources))
                print("\n".join([*lines, str(error)]), file=sys.stderr)
                raise typer.Exit(DIFFERENT) from None
        print("\n".join(_push_report(result, dry_run)))
        for each in unused([one.document for one in local.sources], given):
            print(f"No template uses the secret {each}.", file=sys.stderr)

    _run(work())


def diff(directory: Directory, url: Url = None, account: Chosen = None) -> None:
    """Show the differences between an account (-) and a directory (+).

    Exit status: 1 if there are any.
    """

    async def work() -> None:
        async with _open_account(url, account) as remote:
            lines = await diff_report(TemplateDirectory(directory), remote)
        if lines:
            print("\n".join(lines))
            raise typer.Exit(DIFFERENT)

    _run(work())


def schema() -> None:
    """Print the JSON Schema of template files, for editors."""
    print(json.dumps(_schema(), ensure_ascii=False, indent=2))


def _push_report(result: PushResult, dry_run: bool) -> list[str]:
    would = "would be " if dry_run else ""
    lines = [f"{each.name}: {would}{each.action}" for each in result.saved if each.action != "unchanged"]
    lines += [
        f"{each.name}: a draft with {each.problems} errors (voicebot check lists them)"
        for each in result.saved
        if each.problems
    ]
    lines += [f"{name}: {would}deleted" for name in result.deleted]
    lines += [f"{name}: on the server but not here (--prune deletes it)" for name in result.missing]
    return lines or ["No changes."]


async def _checked(documents: Sequence[Any], in_account: bool, account: UUID | None) -> list[CheckedTemplate]:
    settings = _settings()
    if not in_account and account is None:
        # Keys that this machine lacks may be set on the server that the files are for.
        providers = Providers(settings).rules(configured=False)
        context = SetContext(builtins=_BUILTINS, http_allow=settings.http_allow, providers=providers)
        return check_set(documents, context)
    async with open_database(settings) as database:
        account_id = account or await only_account(database)
        lookup = AccountLookup(
            account_id,
            settings.http_allow,
            Providers(settings).rules(),
            frozenset(HANDLERS),
            carriers=rules_of(settings, carriers_of(settings)),
        )
        return await lookup.check_set(database, documents)


@contextlib.asynccontextmanager
async def _open_account(url: str | None, account: UUID | None) -> AsyncIterator[Account]:
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
            Vault(*settings.fernet_keys()),
            settings.http_allow,
            Providers(settings).rules(),
            _BUILTINS,
            carriers=rules_of(settings, carriers_of(settings)),
        )
        yield DatabaseAccount(database, authoring, account or await only_account(database))


def _schema() -> dict[str, Any]:
    return file_schema(builtins=_BUILTINS, providers=Providers(_settings()).rules())


def _settings() -> Settings:
    settings = startup.settings(*VARIABLES)
    logs.configure("WARNING")
    return settings


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run a command; print an expected error without a traceback."""
    try:
        asyncio.run(work)
    except (BadFiles, DatabaseError, Refused, Unreachable, AccountNotUnique, NoDatabase) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(UNUSABLE) from None
