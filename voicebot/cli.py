"""The command line.

A command's module is imported when the command is run, so that ``--help`` imports no command and a command
imports only what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from voicebot.imports import load


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """A command whose module is imported when it is run."""

    module: str
    function: str
    help: str
    """The first line of the function's docstring."""


LAZY_COMMANDS: Mapping[str, LazyCommand] = {
    "serve": LazyCommand("voicebot.serve", "main", "Take calls until stopped by SIGTERM or SIGINT."),
    "demo": LazyCommand(
        "voicebot.sandbox.demo.__main__",
        "main",
        "Place a call with the sandbox, without any vendor's key (needs the extra `sandbox`).",
    ),
    "doctor": LazyCommand(
        "voicebot.doctor",
        "main",
        "Check the carriers: variables, URL, credentials, numbers and webhooks, each with its remedy.",
    ),
    "chat": LazyCommand("voicebot.simulate.commands", "chat", "Talk to a template in text, drafts included."),
    "call": LazyCommand(
        "voicebot.simulate.phone",
        "call",
        "Hear a template by the sandbox's voices: a phone call with a recording, without any vendor's key.",
    ),
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
    "migrate": LazyCommand(
        "voicebot.administration",
        "migrate",
        "Bring the database's schema up to date; `serve` does so when it starts.",
    ),
}

ACCOUNT_COMMANDS: Mapping[str, LazyCommand] = {
    "create": LazyCommand("voicebot.administration", "create_account", "Create an account."),
    "list": LazyCommand("voicebot.administration", "list_accounts", "List the accounts, oldest first."),
}

KEY_COMMANDS: Mapping[str, LazyCommand] = {
    "create": LazyCommand("voicebot.administration", "create_key", "Create an API key. It is shown once."),
}

NUMBER_COMMANDS: Mapping[str, LazyCommand] = {
    "assign": LazyCommand(
        "voicebot.administration",
        "assign_number",
        "Assign a number to an account: no other account can register it (see VOICEBOT_NUMBERS).",
    ),
}

JOURNAL_COMMANDS: Mapping[str, LazyCommand] = {
    "verify": LazyCommand(
        "voicebot.administration",
        "verify_journal",
        "Verify that no line of the journal was altered, removed or moved; name the first that was.",
    ),
    "forget": LazyCommand(
        "voicebot.administration",
        "forget_journal",
        "Remove a lost directory of the journal from the register, so that `verify` does not miss it.",
    ),
}

IMPORT_COMMANDS: Mapping[str, LazyCommand] = {
    "pipecat-flows": LazyCommand(
        "voicebot.sync.importing",
        "pipecat_flows",
        "Make a template file of a flow of pipecat-flows; notes say what has no counterpart.",
    ),
}

SECRET_COMMANDS: Mapping[str, LazyCommand] = {
    "reencrypt": LazyCommand(
        "voicebot.administration",
        "reencrypt_secrets",
        "Encrypt stored secrets with the first key of VOICEBOT_SECRET_KEY: the others can be removed.",
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
        command.command(self.name)(getattr(load(self._lazy.module), self._lazy.function))
        return get_command(command).make_context(info_name, args, parent, **extra)


def _group_of(commands: Mapping[str, LazyCommand]) -> type[TyperGroup]:
    """The class of a group that has these commands before its own."""

    class Group(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return [*commands, *super().list_commands(ctx)]

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            lazy = commands.get(cmd_name)
            return _Unloaded(cmd_name, lazy) if lazy else super().get_command(ctx, cmd_name)

    return Group


app = typer.Typer(
    name="voicebot",
    cls=_group_of(LAZY_COMMANDS),
    help="Voice agents for phone calls that are routed mid-call between agents.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
for _name, _help, _commands in (
    ("accounts", "Accounts: everything belongs to one.", ACCOUNT_COMMANDS),
    ("keys", "API keys.", KEY_COMMANDS),
    ("numbers", "Phone numbers of accounts.", NUMBER_COMMANDS),
    ("journal", "The journal of handoffs.", JOURNAL_COMMANDS),
    ("secrets", "Secrets in the database.", SECRET_COMMANDS),
    ("import", "Templates from the formats of other frameworks.", IMPORT_COMMANDS),
):
    app.add_typer(typer.Typer(cls=_group_of(_commands), help=_help, no_args_is_help=True), name=_name)
