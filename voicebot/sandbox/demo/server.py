"""The server and its commands as processes, told everything by their environment."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

_COMMAND = (sys.executable, "-m", "voicebot")
_INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "SYSTEMROOT",
)
_START_S = 60.0
_COMMAND_S = 60.0
_STOP_S = 45.0  # longer than the server itself waits for calls to end
_TAIL_LINES = 12


class ServerFailed(RuntimeError):
    """The server or one of its commands failed; the message ends with its last lines."""


class Installation:
    """The directory of a server, and voicebot's commands as processes in it.

    They see no `.env` and no variable of ours but those they are given, so nothing of the user's is touched.
    """

    def __init__(self, directory: Path, data_dir: Path | None = None) -> None:
        """`directory` exists and is empty; `data_dir` has the database (None: it is in `directory`)."""
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        own = {
            "VOICEBOT_DATA_DIR": str((data_dir or directory / "data").resolve()),
            "VOICEBOT_PORT": "0",
            "VOICEBOT_HOST": "127.0.0.1",
        }
        self._directory = directory
        self._environment = inherited | own | {"PYTHONUNBUFFERED": "1"}
        self._log = directory / "server.log"

    async def ask(self, *arguments: str) -> dict[str, Any]:
        """Run a command that answers in one line of JSON.

        Raises:
            ServerFailed: it did not.
        """
        process = await self.start(*arguments)
        try:
            out = await asyncio.wait_for(_first_line(process), _COMMAND_S)
            status = await asyncio.wait_for(process.wait(), _COMMAND_S)
            if status == 0:
                return dict(json.loads(out))
        except (TimeoutError, ValueError) as error:
            raise ServerFailed(
                f"`voicebot {' '.join(arguments)}` said nothing.\n{self.last_words()}"
            ) from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        raise ServerFailed(f"`voicebot {' '.join(arguments)}` failed ({status}).\n{self.last_words()}")

    def last_words(self) -> str:
        """The last lines that the processes wrote on standard error."""
        if not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:])

    async def start(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> asyncio.subprocess.Process:
        """Start a command, with these variables too."""
        variables = {**self._environment, **(environment or {})}
        with self._log.open("ab") as log:
            return await start_process(arguments, variables, self._directory, log)


class ServerProcess:
    """`voicebot serve` in an installation, for as long as the context lasts."""

    def __init__(self, installation: Installation, environment: Mapping[str, str]) -> None:
        """`environment` points the server at vendors."""
        self._installation = installation
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self._process = await self._installation.start("serve", environment=self._environment)
        try:
            line = await asyncio.wait_for(_first_line(self._process), _START_S)
            self.url = str(json.loads(line)["url"])
        except (TimeoutError, ValueError, KeyError) as error:
            await self.__aexit__()
            raise ServerFailed(f"The server did not start.\n{self._installation.last_words()}") from error
        except asyncio.CancelledError:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise ServerFailed(
                f"The server did not stop within {_STOP_S:.0f} s.\n{self._installation.last_words()}"
            ) from None


async def start_process(
    arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, log: BinaryIO
) -> asyncio.subprocess.Process:
    """Start a command of voicebot; its standard error goes into the log."""
    return await asyncio.create_subprocess_exec(
        *_COMMAND,
        *arguments,
        cwd=cwd,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        start_new_session=True,  # Ctrl-C is for us; we stop the server when the call is put away
    )


async def _first_line(process: asyncio.subprocess.Process) -> bytes:
    if process.stdout is None:
        raise ValueError("no standard output")
    return await process.stdout.readline()
