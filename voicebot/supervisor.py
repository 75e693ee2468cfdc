"""The parent of the worker processes of ``voicebot serve --workers``: starts, watches and stops them.

Each worker is a separate program (``voicebot.worker``): the server's libraries start threads when they are
imported, and a process with threads cannot be forked safely. The workers listen on one port
(``SO_REUSEPORT``): the kernel gives each connection to one of them, and none to a worker that has died.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TextIO

from loguru import logger
from pydantic import BaseModel

from voicebot.workers import SharedLoad, Worker

COMMAND = (sys.executable, "-m", "voicebot.worker")

CANNOT_LISTEN = 3
"""The exit status if the port cannot be used; uvicorn's."""

FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 10.0
SOUND_S = 30.0
"""A worker that was ready for so long is started again after the first pause."""


class Address(BaseModel):
    """Where the server listens."""

    family: int
    host: str
    port: int


class Assignment(BaseModel):
    """The first message to a worker."""

    number: int
    count: int
    directory: Path
    """The private directory of the workers."""
    addresses: Sequence[Address]
    database_url: str | None
    """The address of the embedded server; None: the worker's settings name the database."""


@dataclass(slots=True)
class _Running:
    """A worker process."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    received: bytes = b""
    url: str | None = None
    """The server's URL, once the worker is ready."""
    ready_s: float = 0.0


@dataclass(slots=True)
class _Place:
    """One of the workers: its process, or the time at which the next process is started."""

    running: _Running | None = None
    start_s: float | None = None
    pause_s: float = FIRST_PAUSE_S
    status: int = 0
    """The exit status of the last process."""


class Supervisor:
    """Runs the workers until it is told to stop."""

    def __init__(
        self,
        count: int,
        addresses: Sequence[Address],
        directory: Path,
        out: TextIO,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """Run ``count`` workers.

        Args:
            count: how many.
            addresses: where they listen.
            directory: a private directory for their sockets; its path is short.
            out: where the ready line is printed, once, when all workers are ready.
            command: the program of a worker; the number of a file descriptor is added.
        """
        self._command = command
        self._addresses = addresses
        self._directory = directory
        self._out = out
        self._places = [_Place() for _ in range(count)]
        self._load = SharedLoad(Worker(count=count, directory=directory))
        self._selector = selectors.DefaultSelector()
        self._signals: list[int] = []
        self._announced = False
        self._stopping = False
        self._database_url: str | None = None

    def run(self, database_url: Callable[[], str | None]) -> int:
        """Run the workers; return the exit status, the worst of theirs.

        Args:
            database_url: waits for the embedded server, while the workers are imported, and returns its
                address.
        """
        with self._woken_by_signals():
            try:
                for number in range(len(self._places)):
                    self._spawn(number)
                self._database_url = database_url()
                for number in range(len(self._places)):
                    self._assign(number)
                return self._watch()
            finally:
                self._kill()

    def _watch(self) -> int:
        while not self._stopping or any(place.running for place in self._places):
            self._read()
            for sig in self._take_signals():
                self._stop(sig)
            for number, place in enumerate(self._places):
                if place.running is not None and place.running.process.poll() is not None:
                    self._ended(number, place, place.running)
            self._restart()
            self._announce()
        return max(_shell_status(place.status) for place in self._places)

    def _spawn(self, number: int) -> None:
        """Start the process of a worker; it waits for its assignment."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = start_process(self._command, theirs)
        ours.setblocking(False)
        place = self._places[number]
        place.running, place.start_s = _Running(process, ours), None
        self._selector.register(ours, selectors.EVENT_READ, number)

    def _assign(self, number: int) -> None:
        assignment = Assignment(
            number=number,
            count=len(self._places),
            directory=self._directory,
            addresses=self._addresses,
            database_url=self._database_url,
        )
        self._send(number, assignment.model_dump_json())

    def _send(self, number: int, line: str) -> None:
        running = self._places[number].running
        if running is not None:
            with contextlib.suppress(OSError):  # it has died, which `_watch` will find
                running.control.sendall(line.encode() + b"\n")

    def _read(self) -> None:
        """Wait for a signal, a message of a worker, or the time of a start."""
        due = [place.start_s for place in self._places if place.start_s is not None]
        timeout_s = max(0.0, min(due) - time.monotonic()) if due else None
        for key, _ in self._selector.select(timeout_s):
            if key.data is None:
                key.fileobj.recv(4096)  # type: ignore[union-attr]
                continue
            running = self._places[key.data].running
            if running is not None and not self._hear(running):
                self._selector.unregister(running.control)

    def _hear(self, running: _Running) -> bool:
        """Read the ready line of a worker; False: it has closed its end."""
        try:
            data = running.control.recv(4096)
        except BlockingIOError:
            return True
        except ConnectionError:  # it died without reading what it was sent
            return False
        if not data:
            return False
        running.received += data
        line, newline, running.received = running.received.rpartition(b"\n")
        if newline:
            running.url, running.ready_s = json.loads(line)["url"], time.monotonic()
        return True

    def _ended(self, number: int, place: _Place, running: _Running) -> None:
        """Start a worker that has ended again, unless it was stopped or was never ready."""
        self._hear(running)
        place.running, place.status = None, running.process.returncode
        with contextlib.suppress(KeyError):
            self._selector.unregister(running.control)
        running.control.close()
        self._load.clear(number)
        if self._stopping:
            if running.url is None and place.status == -signal.SIGTERM:
                place.status = 0  # it was stopped before it was ready
            return
        if not self._announced and running.url is None:
            logger.error("worker {} ended with status {} before it was ready", number, place.status)
            self._stop(signal.SIGTERM)
            return
        is_sound = running.url is not None and time.monotonic() - running.ready_s >= SOUND_S
        pause_s = FIRST_PAUSE_S if is_sound else place.pause_s
        logger.error(
            "worker {} ended with status {}: it is started again in {} s", number, place.status, pause_s
        )
        place.start_s = time.monotonic() + pause_s
        place.pause_s = min(pause_s * 2, LAST_PAUSE_S)

    def _restart(self) -> None:
        for number, place in enumerate(self._places):
            if not self._stopping and place.start_s is not None and place.start_s <= time.monotonic():
                self._spawn(number)
                self._assign(number)

    def _announce(self) -> None:
        """Print the ready line when all workers are ready for the first time."""
        urls = [place.running.url for place in self._places if place.running is not None]
        if self._announced or self._stopping or len(urls) < len(self._places) or None in urls:
            return
        self._announced = True
        line = json.dumps({"event": "ready", "url": urls[0]}, separators=(",", ":"))
        print(line, file=self._out, flush=True)

    def _stop(self, sig: int) -> None:
        """Pass a signal on; a worker that is not ready yet has no calls and ends at once."""
        self._stopping = True
        for number, place in enumerate(self._places):
            place.start_s = None
            if place.running is not None and place.running.url is None:
                place.running.process.terminate()
            else:
                self._send(number, str(sig))

    def _kill(self) -> None:
        """End the remaining workers; there are some only if this process fails."""
        for place in self._places:
            if place.running is not None:
                place.running.process.kill()
                place.running.process.wait()
                place.running.control.close()
        self._selector.close()

    def _take_signals(self) -> list[int]:
        taken, self._signals = self._signals, []
        return taken

    @contextlib.contextmanager
    def _woken_by_signals(self) -> Iterator[None]:
        """Take signals between the steps of the loop, and wake it when there is one or a worker ends."""

        def note(sig: int, _: FrameType | None) -> None:
            self._signals.append(sig)

        reading, writing = socket.socketpair()
        with reading, writing:
            writing.setblocking(False)
            self._selector.register(reading, selectors.EVENT_READ)
            before = {sig: signal.signal(sig, note) for sig in (signal.SIGTERM, signal.SIGINT)}
            before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
            descriptor = signal.set_wakeup_fd(writing.fileno())
            try:
                yield
            finally:
                signal.set_wakeup_fd(descriptor)
                for sig, handler in before.items():
                    signal.signal(sig, handler)


@contextlib.contextmanager
def reserved(host: str, port: int) -> Iterator[Sequence[Address]]:
    """Reserve a port for the workers of one server; port 0 stands for a free one.

    Raises:
        OSError: another program uses the port, or the address is not of this machine.
    """
    with contextlib.ExitStack() as stack:
        addresses: list[Address] = []
        flags = socket.AI_PASSIVE
        for family, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags):
            if port:  # Without SO_REUSEPORT first, which would share the port with another server.
                socket.create_server((address[0], port), family=family).close()
            bound = stack.enter_context(socket.socket(family))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind((address[0], port))
            port = bound.getsockname()[1]
            addresses.append(Address(family=family, host=str(address[0]), port=port))
        yield addresses


def supervise(count: int, host: str, port: int, database_url: Callable[[], str | None]) -> int:
    """Run ``count`` workers that listen on one port, until SIGTERM or SIGINT; return the exit status."""
    with contextlib.ExitStack() as stack:
        try:
            addresses = stack.enter_context(reserved(host, port))
        except OSError as error:
            logger.error("cannot listen on {} port {}: {}", host, port, error)
            return CANNOT_LISTEN
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="voicebot-"))
        return Supervisor(count, addresses, Path(directory), sys.stdout).run(database_url)


def start_process(command: Sequence[str], end: socket.socket) -> subprocess.Popen[bytes]:
    """Start the process of a worker, with an end of a socket whose file descriptor is its last argument."""
    return subprocess.Popen(  # noqa: S603 - this program
        [*command, str(end.fileno())], pass_fds=[end.fileno()], stdin=subprocess.DEVNULL
    )


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _shell_status(status: int) -> int:
    """The exit status of a process as a shell gives it: 128 and the signal that ended it."""
    return 128 - status if status < 0 else status
