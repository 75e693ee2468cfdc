"""What conversations are played on: the account's templates or files, a model, functions real or answered."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from db import templates
from db.errors import NotFound
from db.pool import Database
from handlers.http import CheckedNetwork, HttpClient, HttpFunctions
from voicebot import logs, startup
from voicebot.call.text.judge import Judge
from voicebot.call.text.library import AccountLibrary
from voicebot.database import only_account, open_database
from voicebot.providers.registry import VARIABLES, Providers
from voicebot.sandbox.process import SandboxProcess
from voicebot.simulate.file_library import FileLibrary
from voicebot.simulate.runner import SimulationSetup
from voicebot.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationOptions:
    """What the command line asked for.

    Attributes:
        files: templates in files; none: those of the account.
        account: which one; None: the only one there is.
        sandbox: play with the sandbox's model, which needs no key.
        real_http: make the requests of HTTP functions.
        verbose: write the logs of the settings' level.
    """

    files: Sequence[Path] = ()
    account: UUID | None = None
    sandbox: bool = False
    real_http: bool = False
    verbose: bool = False


@contextlib.asynccontextmanager
async def open_environment(wish: SimulationOptions) -> AsyncIterator[SimulationSetup]:
    """A stage, opened and closed.

    Raises:
        BadFiles: a file of templates cannot be read.
        WhichAccount: none is named, and there is not exactly one.
        DatabaseError: the database cannot be opened.
    """
    async with contextlib.AsyncExitStack() as stack:
        settings = startup.settings(*VARIABLES)
        if not wish.verbose:
            logs.configure("WARNING")
        if wish.sandbox:
            world = await stack.enter_async_context(SandboxProcess())
            settings = settings.replace(world.env)
        http_client = HttpClient(CheckedNetwork(settings.http_allow))
        stack.push_async_callback(http_client.close)
        http = HttpFunctions(http_client.send, Vault(settings.fernet_key()).open) if wish.real_http else None
        llm = Providers(settings).llm
        if wish.files:
            files = FileLibrary(wish.files)

            async def in_files(name: str) -> UUID:
                return files.find(name)

            yield SimulationSetup(
                library=files, find=in_files, llm=llm, judge=lambda: Judge.by_model(llm), http=http
            )
            return
        database = await stack.enter_async_context(open_database(settings))
        account_id = wish.account or await only_account(database)

        async def in_account(name: str) -> UUID:
            return await _by_name(database, account_id, name)

        library = AccountLibrary(database, account_id)
        yield SimulationSetup(
            library=library, find=in_account, llm=llm, judge=lambda: Judge.by_model(llm), http=http
        )


async def _by_name(database: Database, account_id: UUID, name: str) -> UUID:
    """A template of the account by its name, or by its id.

    Raises:
        NotFound: the account has neither.
    """
    try:
        return (await templates.by_name(database, account_id, name)).id
    except NotFound:
        try:
            return (await templates.get(database, account_id, UUID(name))).id
        except ValueError:
            raise NotFound("template", name) from None
