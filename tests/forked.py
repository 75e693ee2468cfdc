"""Run `voicebot` in a separate process without importing the program each time.

A fork server that has imported the program is forked for each command, which saves seconds a command.
Arguments, environment, working directory, standard streams and exit status are as when a shell starts it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["voicebot.simulate.commands", "voicebot.sync.commands", "voicebot.cli"])


@dataclass(frozen=True, slots=True)
class Ran:
    """Output and exit status of a command."""

    status: int | None
    out: str
    err: str


async def run(arguments: Sequence[str], *, stdin: str = "", environment: Mapping[str, str], cwd: Path) -> Ran:
    """Run `voicebot` with arguments until it exits."""
    with tempfile.TemporaryDirectory() as directory:
        streams = [Path(directory, name) for name in ("in", "out", "err")]
        streams[0].write_text(stdin)
        process = _FORKS.Process(target=_run_command, args=(list(arguments), dict(environment), cwd, streams))
        process.start()
        try:
            await asyncio.to_thread(process.join)
        finally:
            process.kill()
        out, err = (stream.read_text() for stream in streams[1:])
    return Ran(process.exitcode, out, err)


def _run_command(
    arguments: list[str], environment: dict[str, str], cwd: Path, streams: Sequence[Path]
) -> None:
    """Run the command in the forked process."""
    for number, stream in enumerate(streams):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT
        os.dup2(os.open(stream, flags, 0o600), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - multiprocessing has replaced it
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = ["voicebot", *arguments]
    runpy.run_module("voicebot", run_name="__main__", alter_sys=True)
