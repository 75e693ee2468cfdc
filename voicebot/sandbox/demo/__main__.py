"""The command `voicebot demo`."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from voicebot.sandbox.demo import person as with_person
from voicebot.sandbox.demo.account import Refused
from voicebot.sandbox.demo.call_log import CallMissing
from voicebot.sandbox.demo.outbound import OutboundResult, run_outbound
from voicebot.sandbox.demo.person import PersonResult
from voicebot.sandbox.demo.run import CallTooLong, CarrierName, Result, run
from voicebot.sandbox.demo.server import ServerFailed
from voicebot.sandbox.process import SandboxFailed
from voicebot.sandbox.speech.espeak import SpeechEngineMissing

INTERRUPTED = 130

T = TypeVar("T")


def main(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    person: Annotated[
        bool, typer.Option("--person", help="The caller asks for a person, whose telephone rings.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Directory for the recording of the call.")] = Path(".voicebot"),
    carrier: Annotated[CarrierName, typer.Option(help="The carrier that places the call.")] = "twilio",
    outbound: Annotated[
        bool, typer.Option("--outbound", help="Dial a lead, first in vain, and show its webhooks.")
    ] = False,
    data_dir: Annotated[
        Path, typer.Option(envvar="VOICEBOT_DATA_DIR", help="Directory of the database that keeps the call.")
    ] = Path(".voicebot"),
) -> None:
    """Place a call with the sandbox, without any vendor's key (needs the extra `sandbox`).

    The call is kept where `voicebot serve` shows it, unless accounts other than the demo's are there. Exit
    status: 1 if the call was not as expected.
    """
    if person and carrier != "twilio":
        raise typer.BadParameter("a person is called by twilio alone", param_hint="--person")
    console = Console(quiet=as_json, highlight=False)
    try:
        result: Result | OutboundResult | PersonResult
        if outbound:
            result = asyncio.run(_interruptible(run_outbound(console)))
        elif person:
            result = asyncio.run(_interruptible(with_person.run(console, out)))
        else:
            result = asyncio.run(_interruptible(run(console, out, data_dir, carrier)))
    except (ServerFailed, SandboxFailed, Refused, CallMissing, CallTooLong, SpeechEngineMissing) as error:
        print(f"The demo failed: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("Stopped.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print(json.dumps(result.as_json(), ensure_ascii=False))
    if result.faults:
        raise typer.Exit(1)


async def _interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Run the demo; a signal stops it, and everything is cleaned up."""
    running = asyncio.create_task(work)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, _stop, running)
    return await running


def _stop(running: asyncio.Task[Any]) -> None:
    print("Stopping …", file=sys.stderr, flush=True)
    running.cancel()


if __name__ == "__main__":
    typer.run(main)
