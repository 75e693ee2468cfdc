"""Run modules as programs, and the process for checks, without importing them each time.

``tests.fork_server`` is forked for each process, which saves seconds each time.
Arguments, environment, working directory, standard streams, signals and exit status are as when a shell
starts `python -m`. The processes that a forked process starts itself, such as workers, are forked too.
"""

from __future__ import annotations

import asyncio
import os
import runpy
import signal
import socket
import sys
import tempfile
import threading
from asyncio import StreamReader, StreamReaderProtocol
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import BinaryIO

from tests.fork_server import FORKS, SERVER
from voicebot import supervisor
from voicebot.authoring import check_pool, check_worker
from voicebot.sandbox.demo import server as demo_server


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

    def terminate(self) -> None:
        """Send SIGTERM, if the process runs."""
        self._process.terminate()

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
    module: str,
    arguments: Sequence[str],
    *,
    stdin: str = "",
    environment: Mapping[str, str],
    cwd: Path,
    log: BinaryIO | None = None,
) -> Forked:
    """Start a module with arguments, as `python -m` does. ``log``, if any, takes its standard error."""
    (out, child_out), (errors, child_errors) = (FORKS.Pipe() for _ in range(2))
    streams = (child_out, child_errors if log is None else _copy(log.fileno()))
    process = _process(module, arguments, environment, cwd, streams, stdin)
    # The first start waits until the fork server has imported the program.
    await asyncio.to_thread(process.start)
    for each in (child_errors, *streams):
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


class _Popen:
    """A forked process, with what its parent uses of `subprocess.Popen`."""

    _process: ForkServerProcess

    @property
    def returncode(self) -> int | None:
        """As that of `Forked`."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit status; None: it runs."""
        return self._process.exitcode

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def wait(self) -> None:
        """Wait until the process has ended."""
        self._process.join()


class ForkedChecks(_Popen):
    """A process for checks."""

    def __init__(self, end: int) -> None:
        """Start it. ``end`` is the file descriptor of a socket, its input and output."""
        with socket.socket(fileno=os.dup(end)) as copy:
            self._process = FORKS.Process(target=_check, args=(copy,), daemon=True)
            self._process.start()


class ForkedWorker(_Popen):
    """A worker of a forked supervisor."""

    def __init__(self, command: Sequence[str], end: socket.socket) -> None:
        """Start it; its last argument is the file descriptor of the socket."""
        _, _, module, *arguments = command
        streams = (_copy(1), _copy(2))
        self._process = _process(module, arguments, os.environ, Path.cwd(), streams, passed=end)
        self._process.start()
        for each in streams:
            each.close()
        threading.Thread(target=self._report_end, daemon=True).start()

    def _report_end(self) -> None:
        """Send the signal of a child's end: the process is a child of the fork server."""
        wait_for([self._process.sentinel])
        os.kill(os.getpid(), signal.SIGCHLD)


async def _start_for_demo(
    arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, log: BinaryIO
) -> Forked:
    """Start a command of a forked demo."""
    return await start("voicebot", arguments, environment=environment, cwd=cwd, log=log)


_STARTS = ((check_pool, ForkedChecks), (supervisor, ForkedWorker), (demo_server, _start_for_demo))
"""The modules that start processes with ``start_process``, and what forks theirs."""


def _check(end: socket.socket) -> None:
    """Serve checks in the forked process."""
    for number in (0, 1):
        os.dup2(end.fileno(), number)
    end.close()
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - multiprocessing has replaced it
    check_worker.main()


def _copy(descriptor: int) -> Connection:
    return Connection(os.dup(descriptor), readable=False)


async def _reader(connection: Connection) -> StreamReader:
    """Read what comes through a connection, which is a socket.

    uvloop closes a pipe that it reads, and then its descriptor again: another thread may have opened it
    meanwhile.
    """
    reader = StreamReader()
    with connection:
        end = socket.socket(fileno=os.dup(connection.fileno()))
    await asyncio.get_running_loop().create_connection(lambda: StreamReaderProtocol(reader), sock=end)
    return reader


def _process(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    cwd: Path,
    streams: Sequence[Connection],
    stdin: str = "",
    passed: socket.socket | None = None,
) -> ForkServerProcess:
    given = (SERVER.access, module, list(arguments), dict(environment), cwd, streams, stdin, passed)
    return FORKS.Process(target=_run, args=given)


def _run(
    fork_server: str,
    module: str,
    arguments: list[str],
    environment: dict[str, str],
    cwd: Path,
    streams: Sequence[Connection],
    stdin: str,
    passed: socket.socket | None,
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
    tempfile.tempdir = None  # as the environment says
    sys.argv[:] = [module, *arguments, *([] if passed is None else [str(passed.detach())])]
    SERVER.inherit(fork_server)
    for starter, start_process in _STARTS:
        vars(starter)["start_process"] = start_process
    runpy.run_module(module, run_name="__main__", alter_sys=True)
