"""`voicebot chat` and `voicebot test` become `python -m voicebot.simulate`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from db.errors import DatabaseError
from templates.problem import pointer
from voicebot.authoring.files import BadFiles
from voicebot.call.text.answers import Answer
from voicebot.call.text.chat import CannotBegin, TurnTooLong
from voicebot.database import WhichAccount
from voicebot.sandbox.process import SandboxFailed
from voicebot.simulate.environment import SimulationOptions, open_environment
from voicebot.simulate.report import as_json, report
from voicebot.simulate.runner import play
from voicebot.simulate.script import BadFile, load, read_yaml
from voicebot.simulate.terminal import Terminal

FAILED, WRONG = 1, 2
_ANSWERS = TypeAdapter(dict[str, list[Answer]])

app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False)

Account = Annotated[UUID | None, typer.Option(help="The account's id; needed where there are several.")]
Sandbox = Annotated[bool, typer.Option("--sandbox", help="Use the sandbox's model, which needs no key.")]
RealHttp = Annotated[bool, typer.Option("--real-http", help="Make the requests of HTTP functions.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Everything that happened, and the logs.")]


@app.command()
def chat(
    template: Annotated[str, typer.Argument(help="Name (or id) of the template that takes the call.")],
    templates: Annotated[
        list[Path] | None, typer.Option(help="A file or folder of templates, instead of the account's.")
    ] = None,
    account: Account = None,
    payload: Annotated[str, typer.Option(help="The lead's payload, as a JSON object.")] = "{}",
    answers: Annotated[
        Path | None, typer.Option(help="A YAML file of answers of HTTP functions, or of conversations.")
    ] = None,
    sandbox: Sandbox = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """A text call with a template, drafts included: the flow, functions and routes of a telephone call."""
    wish = SimulationOptions(
        files=templates or (),
        account=account,
        sandbox=sandbox,
        real_http=answers is None,
        verbose=verbose,
    )

    async def work() -> None:
        given, prepared = _payload(payload), _answers(answers)
        async with open_environment(wish) as stage:
            terminal = Terminal(Console(highlight=False), as_json=as_json)
            await terminal.converse(stage, await stage.find(template), given, prepared)

    _run(work())


@app.command("test")
def play_script(
    file: Annotated[Path, typer.Argument(help="A YAML file of scripted conversations.")],
    account: Account = None,
    real_http: RealHttp = False,
    sandbox: Sandbox = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Play scripted conversations, and tell what was not as expected. Ends with 1 if anything was not."""

    async def work() -> None:
        script = load(file)
        files = [file.parent / path for path in script.templates]
        wish = SimulationOptions(
            files=files, account=account, sandbox=sandbox, real_http=real_http, verbose=verbose
        )
        async with open_environment(wish) as stage:
            played = await play(script, stage)
        if as_json:
            print(json.dumps(_told(played), ensure_ascii=False))
        else:
            console = Console(highlight=False)
            for line in report(played, everything=verbose):
                console.print(line, soft_wrap=True)
        if not all(each.passed for each in played):
            raise typer.Exit(FAILED)

    _run(work())


_told = as_json  # the option of the same name hides it in the commands


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run a command; what is wrong is said in a few lines, without a traceback."""
    try:
        asyncio.run(work)
    except (BadFile, BadFiles, DatabaseError, CannotBegin, SandboxFailed, WhichAccount) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(WRONG) from None
    except TurnTooLong:
        print("The language model did not answer in time.", file=sys.stderr)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _payload(text: str) -> dict[str, Any]:
    try:
        payload = json.loads(text)
    except ValueError:
        payload = None
    if not isinstance(payload, dict):
        raise BadFile(Path("--payload"), ["a JSON object is expected"])
    return payload


def _answers(path: Path | None) -> dict[str, list[Answer]]:
    if path is None:
        return {}
    document = read_yaml(path)
    if isinstance(document, dict) and "conversations" in document:
        document = document.get("answers", {})
    try:
        return _ANSWERS.validate_python(document)
    except ValidationError as error:
        faults = [f"{pointer(*fault['loc'])}: {fault['msg']}" for fault in error.errors()]
        raise BadFile(path, faults) from None


if __name__ == "__main__":
    app(prog_name="voicebot")
