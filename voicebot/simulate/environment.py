"""The setup of simulated conversations: templates, language model and HTTP functions."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from db import templates
from db.errors import NotFound
from db.pool import Database
from handlers.http import CheckedNetwork, HttpClient
from handlers.http.function import HttpFunctions
from voicebot import logs, startup
from voicebot.call.text.judge import Judge
from voicebot.call.text.library import AccountLibrary
from voicebot.database import NoDatabase, has_database, only_account, open_database
from voicebot.providers.registry import VARIABLES, Providers
from voicebot.sandbox.process import SandboxProcess
from voicebot.simulate.file_library import FileLibrary
from voicebot.simulate.runner import SimulationSetup
from voicebot.simulate.unknown_template import UnknownTemplate
from voicebot.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationOptions:
    """The options of the command line.

    Attributes:
        files: template files; empty: the templates of the account.
        account: the account's id; None: the only account.
        sandbox: use the sandbox's language model, which needs no key.
        real_http: make the requests of HTTP functions.
        verbose: log at the level of the settings.
    """

    files: Sequence[Path] = ()
    account: UUID | None = None
    sandbox: bool = False
    real_http: bool = False
    verbose: bool = False


@contextlib.asynccontextmanager
async def open_environment(options: SimulationOptions) -> AsyncIterator[SimulationSetup]:
    """Open the setup, and close it at the end.

    Raises:
        BadFiles: a file of templates cannot be read.
        AccountNotUnique: no account is named, and there is not exactly one.
        DatabaseError: the database cannot be opened.
        NoDatabase: there is none.
    """
    async with contextlib.AsyncExitStack() as stack:
        settings = startup.settings(*VARIABLES)
        if not options.files and not has_database(settings):
            raise NoDatabase(settings.data_dir)
        if not options.verbose:
            logs.configure("WARNING")
        if options.sandbox:
            sandbox = await stack.enter_async_context(SandboxProcess())
            settings = settings.replace(sandbox.env)
        http_client = HttpClient(CheckedNetwork(settings.http_allow))
        stack.push_async_callback(http_client.close)
        http = (
            HttpFunctions(http_client.send, Vault(*settings.fernet_keys()).open)
            if options.real_http
            else None
        )
        providers = Providers(settings)
        llm = providers.llm
        rules = providers.rules()["llm"]
        missing = rules["openai"].missing if len(rules) == 1 else ()
        if options.files:
            files = FileLibrary(options.files)

            async def find_in_files(name: str) -> UUID:
                return files.find(name)

            yield SimulationSetup(
                library=files,
                find=find_in_files,
                llm=llm,
                judge=lambda: Judge.by_model(llm),
                http=http,
                missing=missing,
            )
            return
        database = await stack.enter_async_context(open_database(settings))
        account_id = options.account or await only_account(database)

        async def find_in_account(name: str) -> UUID:
            return await _by_name(database, account_id, name)

        library = AccountLibrary(database, account_id)
        yield SimulationSetup(
            library=library,
            find=find_in_account,
            llm=llm,
            judge=lambda: Judge.by_model(llm),
            http=http,
            missing=missing,
        )


async def _by_name(database: Database, account_id: UUID, name: str) -> UUID:
    """A template of the account by its name, or by its id.

    Raises:
        UnknownTemplate: the account has neither.
    """
    try:
        return (await templates.by_name(database, account_id, name.strip())).id
    except NotFound:
        try:
            return (await templates.get(database, account_id, UUID(name))).id
        except (ValueError, NotFound):
            known = await templates.names(database, account_id, beginning="")
            raise UnknownTemplate(name, known) from None
