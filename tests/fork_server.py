"""A process that has imported the program, and is forked for each process that the tests start.

Imports take 5 s of CPU time in each process otherwise. Under xdist, the first process of the session (the
controller) starts it for all, and the workers themselves are forked from it; otherwise it is started when it
is needed.
"""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

ACCESS = "VOICEBOT_TEST_FORK_SERVER"
"""The environment variable by which the workers of a session know how to reach it."""

_ROOT = str(Path(__file__).parents[1])
_LAUNCH = (
    f"import sys; sys.path.insert(0, {_ROOT!r}); from tests.fork_server import launch_worker; launch_worker()"
)


class _ForkServer(forkserver.ForkServer):
    """The fork server of a session, which the processes that are forked for it use too.

    That of `multiprocessing` is not used by them: each would start one of its own.
    """

    _forkserver_address: str | None
    _forkserver_alive_fd: int | None
    _forkserver_authkey: bytes | None = None
    _is_inherited = False

    @property
    def access(self) -> str:
        """The key that it requires from Python 3.14 on, and where it listens."""
        self.ensure_running()
        return f"{(self._forkserver_authkey or b'').hex()}:{self._forkserver_address}"

    def inherit(self, access: str) -> None:
        """Use the fork server of another process."""
        key, _, self._forkserver_address = access.partition(":")
        self._forkserver_authkey, self._is_inherited = bytes.fromhex(key) or None, True
        # Each process passes one on; the server ends when that of its first process is closed.
        self._forkserver_alive_fd = os.open(os.devnull, os.O_RDONLY)

    def ensure_running(self) -> None:
        """Start it, if it is not that of another process."""
        if not self._is_inherited:
            super().ensure_running()


SERVER = _ForkServer()
SERVER.set_forkserver_preload(["tests.preloaded"])
forkserver.connect_to_new_process = SERVER.connect_to_new_process
FORKS = multiprocessing.get_context("forkserver")


def forked_workers(count: int) -> Sequence[str]:
    """Start the fork server; return the specifications of xdist (``--tx``) for workers forked from it."""
    os.environ[ACCESS] = SERVER.access
    return [f"popen//python={shlex.join((sys.executable, '-c', _LAUNCH))}"] * count


def launch_worker() -> None:
    """Stand in this process for a worker of xdist: fork one with its standard streams, and wait for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker is interrupted itself
    SERVER.inherit(os.environ[ACCESS])
    streams = [Connection(os.dup(number), writable=number > 0, readable=number == 0) for number in range(3)]
    worker = FORKS.Process(target=_work, args=(dict(os.environ), *streams))
    worker.start()
    for number, stream in enumerate(streams):
        stream.close()
        os.close(number)  # the controller must notice when the worker ends
    worker.join()
    os._exit(worker.exitcode or 0)


def _work(environment: Mapping[str, str], *streams: Connection) -> None:
    """Do what ``python -c`` does with the line by which execnet starts its workers."""
    os.environ.clear()
    os.environ.update(environment)
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - multiprocessing has replaced it
    exec(eval(sys.stdin.readline()), vars(sys.modules["__main__"]))  # noqa: S102, S307 - from the controller
