"""Small programs as the workers of a supervisor: ``python -m tests.supervised COUNT BEHAVIOUR``."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

from voicebot.supervisor import Assignment, Supervisor

STOPPED = 7
"""The exit status of a worker that was stopped by the supervisor."""

FAILED = 4
"""The exit status of a worker that fails at its start."""


def supervise(count: int, behaviour: str) -> int:
    """Run workers that behave so; return the exit status."""
    command = (sys.executable, "-m", "tests.supervised", "worker", behaviour)
    with tempfile.TemporaryDirectory() as directory:
        return Supervisor(count, [], Path(directory), sys.stdout, command).run(lambda: None)


def work(behaviour: str, control: socket.socket) -> int:
    """Be a worker: say on standard error what happens, as JSON."""
    lines = control.makefile("rw")
    assignment = Assignment.model_validate_json(lines.readline())
    starts = assignment.directory / f"{assignment.number}.starts"
    started = int(starts.read_text()) + 1 if starts.exists() else 1
    starts.write_text(str(started))
    if behaviour == "fails" and assignment.number == 1:
        return FAILED
    if behaviour == "hangs" and assignment.number == 1:
        _say(assignment, "hangs")
        time.sleep(600)
    print(json.dumps({"url": "http://there"}), file=lines, flush=True)
    _say(assignment, f"start {started}")
    if behaviour == "dies" and assignment.number == 1 and started < 4:
        os.kill(os.getpid(), signal.SIGKILL)
    for line in lines:
        _say(assignment, f"signal {line.strip()}")
        if behaviour != "needs two" or int(line) == signal.SIGINT:
            return STOPPED if assignment.number == 1 else 0
    _say(assignment, "orphaned")
    return 0


def _say(assignment: Assignment, what: str) -> None:
    sys.stderr.write(json.dumps({"worker": assignment.number, "what": what, "pid": os.getpid()}) + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        # A terminal's SIGINT is the supervisor's affair.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(work(sys.argv[2], socket.socket(fileno=int(sys.argv[3]))))
    sys.exit(supervise(int(sys.argv[1]), sys.argv[2]))
