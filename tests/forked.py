"""Run modules as programs, and the process for checks, without importing them each time.

A fork server that has imported the program is forked for each process, which saves seconds each time.
Arguments, environment, working directory, standard streams, signals and exit status are as when a shell
starts `python -m`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import runpy
import socket
import sys
import tempfile
from asyncio import StreamReader, StreamReaderProtocol
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from voicebot.authoring import check_worker

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.preloaded"])


@dataclass(frozen=True, slots=True)
class Ran:
    """Output and exit status of a command."""

    status: int | None
    out: str
    err: str


class Forked:
    """A forked process, with the interface of `asyncio.subprocess.Process`."""

    def __init__(self, process: ForkServerProcess, stdout: StreamReader, stderr: StreamReader) -> None:
        self._process = process
        self.stdout = stdout
        self.stderr = stderr

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, or the number of the signal that ended the process, negative; None: it runs."""
        return self._process.exitcode

    def send_signal(self, signal: int) -> None:
        """Send a signal, if the process runs."""
        if self.returncode is None:
            os.kill(self.pid, signal)

    def kill(self) -> None:
        """Send SIGKILL, if the process runs."""
        self._process.kill()

    async def wait(self) -> int | None:
        """Wait until the process has ended; return its exit status."""
        await asyncio.to_thread(self._process.join)
        return self.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """Wait until the process has ended; return what it printed."""
        out, errors, _ = await asyncio.gather(self.stdout.read(), self.stderr.read(), self.wait())
        return out, errors


async def start(
    module: str, arguments: Sequence[str], *, stdin: str = "", environment: Mapping[str, str], cwd: Path
) -> Forked:
    """Start a module with arguments, as `python -m` does."""
    (out, child_out), (errors, child_errors) = (_FORKS.Pipe(duplex=False) for _ in range(2))
    streams = (child_out, child_errors)
    process = _FORKS.Process(
        target=_run, args=(module, list(arguments), stdin, dict(environment), cwd, streams)
    )
    # The first start waits until the fork server has imported the program.
    await asyncio.to_thread(process.start)
    for each in streams:
        each.close()
    return Forked(process, await _reader(out), await _reader(errors))


async def run(arguments: Sequence[str], *, stdin: str = "", environment: Mapping[str, str], cwd: Path) -> Ran:
    """Run `voicebot` with arguments until it exits."""
    process = await start("voicebot", arguments, stdin=stdin, environment=environment, cwd=cwd)
    try:
        out, errors = await process.communicate()
    finally:
        process.kill()
    return Ran(process.returncode, out.decode(), errors.decode())


class ForkedChecks:
    """A forked process for checks, with what `CheckPool` uses of `subprocess.Popen`."""

    def __init__(self, end: int) -> None:
        """Start it. ``end`` is the file descriptor of a socket, its input and output."""
        with socket.socket(fileno=os.dup(end)) as copy:
            self._process = _FORKS.Process(target=_check, args=(copy,), daemon=True)
            self._process.start()

    def poll(self) -> int | None:
        """Return the exit status; None: it runs."""
        return self._process.exitcode

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def wait(self) -> None:
        """Wait until the process has ended."""
        self._process.join()


def _check(end: socket.socket) -> None:
    """Serve checks in the forked process."""
    for number in (0, 1):
        os.dup2(end.fileno(), number)
    end.close()
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - multiprocessing has replaced it
    check_worker.main()


async def _reader(pipe: Connection) -> StreamReader:
    """Read what comes through a pipe."""
    reader = StreamReader()
    with pipe:
        end = os.fdopen(os.dup(pipe.fileno()), "rb", buffering=0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: StreamReaderProtocol(reader), end)
    return reader


def _run(
    module: str,
    arguments: list[str],
    stdin: str,
    environment: dict[str, str],
    cwd: Path,
    streams: Sequence[Connection],
) -> None:
    """Run the module in the forked process."""
    with tempfile.TemporaryFile("w+") as given:
        given.write(stdin)
        given.seek(0)
        os.dup2(given.fileno(), 0)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - multiprocessing has replaced it
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream.fileno(), number)
        stream.close()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
