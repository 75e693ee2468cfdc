"""What the call benches measure: a server as a process, with an account of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

PUBLIC_URL = "https://voicebot.example.com"
NUMBER = "+14155550100"
SETTLE_S = 1.5
"""Pause after which the server has written a call and closed its sockets, in seconds."""

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class VoicebotServer:
    """A running server process with an account of its own.

    Attributes:
        pid: the id of the process; PostgreSQL runs in processes of its own.
        api: a client of the API with the key of the account's owner.
    """

    url: str
    pid: int
    api: httpx.AsyncClient

    async def create(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Create a resource with the API and return the answer.

        Raises:
            httpx.HTTPStatusError: the API refused the document.
        """
        response = await self.api.post(path, json=dict(document))
        if response.is_error:
            sys.stderr.write(response.text + "\n")
        response.raise_for_status()
        return dict(response.json())


@contextlib.asynccontextmanager
async def voicebot_server(
    vendors: Mapping[str, str],
    directory: str,
    python: Sequence[str] = (sys.executable, "-m"),
    root: Path = ROOT,
) -> AsyncIterator[VoicebotServer]:
    """Start a server with an empty database and an account, and stop it at the end.

    Args:
        vendors: the environment variables of the vendors and of the carrier.
        directory: where the database is.
        python: how a module is run.
        root: the checkout whose server is started.
    """
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        **vendors,
        "PYTHONPATH": str(root),
        "VOICEBOT_DATA_DIR": f"{directory}/data",
        "VOICEBOT_PORT": "0",
        "VOICEBOT_DRAIN_TIMEOUT_MS": "1000",
        # A bench measures what happens when a process is full.
        "VOICEBOT_MAX_LAG_MS": "0",
        "PUBLIC_URL": PUBLIC_URL,
        "LOG_LEVEL": "WARNING",
    }
    async with _server([*python, "voicebot", "serve"], environment, directory) as (url, pid):
        account = await _command(["accounts", "create", "--name", "bench"], environment, directory)
        key = await _command(
            ["keys", "create", "--account", account["account_id"], "--role", "owner"], environment, directory
        )
        headers = {"Authorization": f"Bearer {key['key']}"}
        async with httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers, timeout=30) as api:
            yield VoicebotServer(url=url, pid=pid, api=api)


@contextlib.asynccontextmanager
async def _server(
    command: Sequence[str], environment: Mapping[str, str], directory: str
) -> AsyncIterator[tuple[str, int]]:
    """A server process; yields its URL and its id, and stops it at the end."""
    process = await asyncio.create_subprocess_exec(
        *command, env=dict(environment), cwd=directory, stdout=PIPE
    )
    try:
        if process.stdout is None:
            raise RuntimeError("the server process has no standard output")
        yield json.loads(await process.stdout.readline())["url"], process.pid
    finally:
        process.terminate()
        await process.wait()


async def _command(command: Sequence[str], environment: Mapping[str, str], directory: str) -> dict[str, Any]:
    """Run a ``voicebot`` command with ``--json`` and return its answer."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "voicebot", *command, "--json",
        env=dict(environment), cwd=directory, stdout=PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    return dict(json.loads(out))
