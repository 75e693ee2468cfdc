"""The command `voicebot call`: hear templates by the voices of the sandbox, without keys."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console

from db.errors import DatabaseError
from voicebot import logs, startup
from voicebot.authoring import export, find_exported
from voicebot.authoring.check_pool import DirectChecks
from voicebot.authoring.files import BadFiles, read_some
from voicebot.call.dtmf import typed_keys
from voicebot.database import AccountNotUnique, NoDatabase, only_account, open_database
from voicebot.providers.registry import VARIABLES
from voicebot.sandbox.audio import wav
from voicebot.sandbox.audio.analysis import analyse
from voicebot.sandbox.caller import Caller, Dtmf, HangUp, Listen, Say, Step
from voicebot.sandbox.demo import scenario
from voicebot.sandbox.demo.account import Api, Refused
from voicebot.sandbox.demo.call_log import CallMissing
from voicebot.sandbox.demo.display import Display
from voicebot.sandbox.demo.run import CallTooLong, show, telephone
from voicebot.sandbox.demo.server import ServerFailed
from voicebot.sandbox.process import SandboxFailed
from voicebot.sandbox.speech.espeak import SpeechEngineMissing
from voicebot.simulate.unknown_template import UnknownTemplate

FAILED, UNUSABLE = 1, 2
"""Exit statuses: the call was not heard to its end; the command could not be carried out."""

PREVIEW = "Preview of {}"
"""Name of the orchestrator that is created for an agent, because agents do not answer the number."""

_QUIET_MS = 700.0
_HIDDEN = "***"


def call(
    template: Annotated[str, typer.Argument(help="Name of the template that takes the call.")],
    templates: Annotated[
        list[Path] | None, typer.Option(help="A file or directory of templates, instead of the account's.")
    ] = None,
    account: Annotated[
        UUID | None, typer.Option(help="The account's id; needed where there are several.")
    ] = None,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Use the sandbox's voices and model; calls have no others.")
    ] = False,
    say: Annotated[
        Path | None,
        typer.Option(
            help="A text file with what the caller says, one turn a line; #12 presses the keys 1 and 2."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory for the recording of the call.")] = Path(".voicebot"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Hear a template by the sandbox's voices: a phone call with a recording, without any vendor's key.

    Without --say, the caller only listens to the first words. Exit status: 1 if the call was not heard to
    its end.
    """
    if not sandbox:
        print("Add --sandbox: a call with the vendors' voices is placed by telephone.", file=sys.stderr)
        raise typer.Exit(UNUSABLE)
    try:
        turns = _turns(say)
        documents = asyncio.run(_documents(templates or (), account))
        prepared = prepare(documents, template)
        result = asyncio.run(_place(prepared, turns, out, Console(quiet=as_json, highlight=False)))
    except (BadFiles, DatabaseError, AccountNotUnique, NoDatabase, OSError, Refused) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(UNUSABLE) from None
    except (ServerFailed, SandboxFailed, CallMissing, CallTooLong, SpeechEngineMissing) as error:
        print(f"The call failed: {error}", file=sys.stderr)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
    if not result["ok"]:
        print(f"The caller did not hear the call to its end: {result['failure']}", file=sys.stderr)
        raise typer.Exit(FAILED)


def prepare(documents: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """The templates for the server of the call: all active, ``name`` alone answers the number.

    An agent is answered by an orchestrator with the agent's content, which routes to the agent.

    Raises:
        UnknownTemplate: there is no template with this name.
    """
    own = [_without_secrets(each) for each in documents if isinstance(each.get("name"), str)]
    answering = next((each for each in own if each["name"].strip() == name.strip()), None)
    if answering is None:
        raise UnknownTemplate(name, [each["name"] for each in own])
    for each in own:
        each["status"] = "draft" if each.get("kind") == "orchestrator" else "active"
    if answering.get("kind") == "orchestrator":
        answering.update(number=scenario.NUMBER, status="active")
        return own
    again = {"name": "again", "template": answering["name"], "when": "Never.", "context": "none"}
    variables = [{**each, "required": False} for each in answering.get("variables") or ()]
    preview = {
        **answering,
        "name": PREVIEW.format(answering["name"])[:120],
        "kind": "orchestrator",
        "status": "active",
        "number": scenario.NUMBER,
        "variables": variables,
        "routes": [*(answering.get("routes") or ()), again],
    }
    answering["variables"] = variables
    return [*own, preview]


def _without_secrets(document: Mapping[str, Any]) -> dict[str, Any]:
    """A copy without number and without the secrets of functions, which a file does not have."""
    functions = [
        {
            **each,
            "secret_headers": {k: v for k, v in (each.get("secret_headers") or {}).items() if v != _HIDDEN},
        }
        if each.get("type") == "http"
        else each
        for each in document.get("functions") or ()
    ]
    kept = {name: value for name, value in document.items() if name not in ("number", "number_id", "id")}
    return {**kept, **({"functions": functions} if "functions" in document else {})}


def _turns(say: Path | None) -> list[str]:
    text = say.read_text(encoding="utf-8") if say else ""
    return [line.strip() for line in text.splitlines() if line.strip()]


async def _documents(files: Sequence[Path], account: UUID | None) -> list[Mapping[str, Any]]:
    """Templates in the form of files."""
    if files:
        return [each.document for each in read_some(files)]
    settings = startup.settings(*VARIABLES)
    logs.configure("WARNING")
    async with open_database(settings) as database:
        account_id = account or await only_account(database)
        found = await find_exported(database, account_id)
        return [each.document async for each in export(database, DirectChecks(), account_id, found)]


async def _place(
    documents: Sequence[Mapping[str, Any]], turns: Sequence[str], out: Path, console: Console
) -> dict[str, Any]:
    """Save the templates on a server of the sandbox, call it, and print what happens."""
    console.print("Starting the vendors' stand-ins and the server …", style="bright_black")
    async with telephone(turns) as (api, carrier):
        await api.post("/numbers", {"e164": scenario.NUMBER, "label": "Preview"})
        saved = await api.post("/templates/import", {"templates": list(documents)})
        display = Display(console, {each["id"]: each["name"] for each in saved["templates"]})
        caller = Caller(script=_script(turns), voice_id=scenario.CALLER_VOICE)
        placed = carrier.call(from_=scenario.CALLER, to=scenario.NUMBER, person=caller)
        lines = await show(api, placed, display)
        recording = placed.recording()
        path = wav.write(out / f"call-{datetime.now().astimezone():%Y%m%d-%H%M%S}.wav", recording)
        display.recording(path, await asyncio.to_thread(analyse, recording))
        return await _result(api, lines[0].record["call_id"] if lines else None, path, caller)


def _script(turns: Sequence[str]) -> tuple[Step, ...]:
    heard = Listen(quiet_ms=_QUIET_MS)
    spoken = (step for text in turns for step in (_turn(text), heard))
    return (heard, *spoken, HangUp())


def _turn(text: str) -> Step:
    keys = typed_keys(text)
    return Say(text=text) if keys is None else Dtmf(digits=keys)


async def _result(api: Api, call_id: str | None, path: Path, caller: Caller) -> dict[str, Any]:
    """What happened; a call that the agent has ended was heard to its end."""
    outcome = caller.outcome
    record = await api.get(f"/calls/{call_id}") if call_id else {}
    items: dict[str, Any] = {}
    for name, query in (("transcript", ""), ("events", ""), ("routes", ""), ("turns", "?limit=200")):
        items[name] = (await api.get(f"/calls/{call_id}/{name}{query}"))["items"] if call_id else []
    return {
        "ok": outcome.ok or record.get("ended_by") == "agent",
        "failure": outcome.failure,
        "recording": str(path),
        "call": record,
        **items,
    }
