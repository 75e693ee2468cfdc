"""Servers as processes of their own, started as people start them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
VOICEBOT: tuple[str, ...] = (sys.executable, "-m", "voicebot")


async def start(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Process:
    """Start a process with the given variables; of this process's own it has PATH only."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return await asyncio.create_subprocess_exec(
        *command,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        cwd=cwd,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )


async def said(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Any:
    """What a command answers in one line of JSON."""
    process = await start(command, environment, cwd)
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return json.loads(out)


@contextlib.asynccontextmanager
async def server(
    command: Sequence[str], environment: Mapping[str, str], cwd: Path
) -> AsyncIterator[tuple[str, Process]]:
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
