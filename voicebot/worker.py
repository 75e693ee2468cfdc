"""One worker process of ``voicebot serve --workers``: ``python -m voicebot.worker`` with a file descriptor.

The descriptor is a connection to the supervisor (``voicebot.supervisor``), which first sends an
``Assignment``. This module imports little; the server is imported with the garbage collector disabled.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from loguru import logger

from voicebot import startup
from voicebot.imports import load
from voicebot.supervisor import Assignment
from voicebot.workers import Worker

SERVER = "voicebot.server"
_BACKLOG = 2048


def main() -> None:
    """Take calls until the supervisor stops this process or is gone."""
    # A terminal sends SIGINT to all processes; the supervisor decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    settings = startup.settings()
    server = load(SERVER)
    assignment = _receive(control)
    if assignment is None:
        return
    logger.configure(extra={"worker": assignment.number})
    worker = Worker(number=assignment.number, count=assignment.count, directory=assignment.directory)
    if assignment.database_url is not None:
        settings = settings.replace({"DATABASE_URL": assignment.database_url})
    server.run_worker(settings, worker, _listen(assignment, worker), control)


def _receive(control: socket.socket) -> Assignment | None:
    """What the supervisor assigns; None: it is gone."""
    with control.makefile("rb", buffering=0) as lines:
        line = lines.readline()
    return Assignment.model_validate_json(line) if line else None


def _listen(assignment: Assignment, worker: Worker) -> list[socket.socket]:
    """The sockets of this worker: at the port of the server, then its own Unix socket."""
    sockets = [
        socket.create_server(
            (address.host, address.port), family=address.family, backlog=_BACKLOG, reuse_port=True
        )
        for address in assignment.addresses
    ]
    private = socket.socket(socket.AF_UNIX)
    path = worker.socket_of(worker.number)
    path.unlink(missing_ok=True)  # of a worker that has died
    private.bind(os.fspath(path))
    private.listen(_BACKLOG)
    return [*sockets, private]


if __name__ == "__main__":
    main()
