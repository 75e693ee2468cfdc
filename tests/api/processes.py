"""Servers and commands as processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests import forked
from tests.forked import Forked

ROOT = Path(__file__).parents[2]
VOICEBOT: tuple[str, ...] = (sys.executable, "-m", "voicebot")
Start = Callable[[Sequence[str], Mapping[str, str], Path], Awaitable[Process | Forked]]
"""Starts a command with an environment in a directory."""


async def start(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Process:
    """Start a process with the given variables; of this process's own it has PATH and HOME only."""
    return await asyncio.create_subprocess_exec(
        *command, env=_variables(environment), cwd=cwd, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )


async def fork(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Forked:
    """Start `python -m` in the same way, in a process that has imported the program already."""
    _, _, module, *arguments = command
    return await forked.start(module, arguments, environment=_variables(environment), cwd=cwd)


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**inherited, "PYTHONPATH": str(ROOT), **environment}


async def said(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Any:
    """What a command answers in one line of JSON."""
    process = await start(command, environment, cwd)
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return json.loads(out)


@contextlib.asynccontextmanager
async def server(
    command: Sequence[str], environment: Mapping[str, str], cwd: Path, start: Start = fork
) -> AsyncIterator[tuple[str, Process | Forked]]:
    """A server process and its URL; it is stopped by SIGTERM at the end."""
    process = await start(command, {"VOICEBOT_PORT": "0", **environment}, cwd)
    assert process.stdout is not None
    assert process.stderr is not None
    errors = asyncio.create_task(process.stderr.read())
    try:
        line = await process.stdout.readline()
        if not line:
            raise AssertionError((await errors).decode())
        ready = json.loads(line)
        assert ready["event"] == "ready"
        yield ready["url"], process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await process.wait()
            await errors
