"""The commands `voicebot chat` and `voicebot test`."""

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
from voicebot.database import AccountNotUnique, NoDatabase
from voicebot.sandbox.process import SandboxFailed
from voicebot.simulate.environment import SimulationOptions, open_environment
from voicebot.simulate.report import report, report_as_json
from voicebot.simulate.runner import SimulationSetup, run
from voicebot.simulate.script import BadFile, load, read_yaml
from voicebot.simulate.terminal import Terminal

FAILED, UNUSABLE = 1, 2
"""Exit statuses: something was not as expected; the command could not be carried out."""
_ANSWERS = TypeAdapter(dict[str, list[Answer]])

Account = Annotated[UUID | None, typer.Option(help="The account's id; needed where there are several.")]
Sandbox = Annotated[
    bool, typer.Option("--sandbox", help="Use the sandbox's language model, which needs no key.")
]
RealHttp = Annotated[bool, typer.Option("--real-http", help="Make the requests of HTTP functions.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print all events, and the logs.")]


def chat(
    template: Annotated[str, typer.Argument(help="Name (or id) of the template that takes the call.")],
    templates: Annotated[
        list[Path] | None, typer.Option(help="A file or directory of templates, instead of the account's.")
    ] = None,
    account: Account = None,
    payload: Annotated[str, typer.Option(help="The lead's payload, as a JSON object.")] = "{}",
    answers: Annotated[
        Path | None, typer.Option(help="A YAML file with answers of HTTP functions, or with conversations.")
    ] = None,
    sandbox: Sandbox = False,
    show_prompt: Annotated[
        bool,
        typer.Option(
            "--show-prompt", help="Print what the model is shown and answers: messages, tools, times, cost."
        ),
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Talk to a template in text, drafts included.

    The flow, functions and routes are those of a phone call.
    """
    options = SimulationOptions(
        files=templates or (),
        account=account,
        sandbox=sandbox,
        real_http=answers is None,
        verbose=verbose,
    )

    async def work() -> None:
        lead_payload, http_answers = _payload(payload), _answers(answers)
        async with open_environment(options) as setup:
            terminal = Terminal(Console(highlight=False), as_json=as_json, show_prompt=show_prompt)
            await terminal.converse(setup, await setup.find(template), lead_payload, http_answers)
        if terminal.model_failed:
            print(_model_hint(setup), file=sys.stderr)
            raise typer.Exit(FAILED)

    _run(work())


def run_script(
    file: Annotated[Path, typer.Argument(help="A YAML file of scripted conversations.")],
    account: Account = None,
    real_http: RealHttp = False,
    sandbox: Sandbox = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Run scripted conversations, and report what was not as expected.

    Exit status: 1 if anything was not as expected.
    """

    async def work() -> None:
        script = load(file)
        files = [file.parent / path for path in script.templates]
        options = SimulationOptions(
            files=files, account=account, sandbox=sandbox, real_http=real_http, verbose=verbose
        )
        async with open_environment(options) as setup:
            results = await run(script, setup)
        if as_json:
            print(json.dumps(report_as_json(results), ensure_ascii=False))
        else:
            console = Console(highlight=False)
            for line in report(results, verbose=verbose):
                console.print(line, soft_wrap=True)
        if any(turn.exchange and turn.exchange.model_failed for each in results for turn in each.turns):
            print(_model_hint(setup), file=sys.stderr)
        if not all(each.passed for each in results):
            raise typer.Exit(FAILED)

    _run(work())


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run a command; print an expected error without a traceback."""
    try:
        asyncio.run(work)
    except (
        BadFile,
        BadFiles,
        DatabaseError,
        CannotBegin,
        SandboxFailed,
        AccountNotUnique,
        NoDatabase,
    ) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(UNUSABLE) from None
    except TurnTooLong:
        print("The language model did not answer in time.", file=sys.stderr)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _model_hint(setup: SimulationSetup) -> str:
    """What to do about a language model that fails."""
    use = "or use --sandbox for the sandbox's model, which needs no key."
    if setup.missing:
        return f"There is no key of a language model: set {' and '.join(setup.missing)}, {use}"
    return f"The language model failed. Check its key and address (OPENAI_API_KEY, OPENAI_BASE_URL), {use}"


def _payload(text: str) -> dict[str, Any]:
    try:
        payload = json.loads(text)
    except ValueError:
        payload = None
    if not isinstance(payload, dict):
        raise BadFile(Path("--payload"), ["must be a JSON object"])
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
