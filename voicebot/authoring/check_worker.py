"""The process that checks templates: ``CheckPool`` starts it and calls ``main``.

It writes ``READY`` when it has started. Then it reads requests from its standard input and writes results to
its standard output, each as a length of eight bytes and a pickle: a request is a function, its positional and
its named arguments; a result is whether the function returned, and its result or its exception. It ends when
its input does.

The process has no pipecat and no connection to the database.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from typing import Any, BinaryIO

LENGTH_BYTES = 8
"""Size of the length before each pickle, in network byte order."""

READY = b"\n"

NICENESS = 10
"""Added to the niceness of the process, because calls have priority over checks."""


class CheckFailed(Exception):
    """A check raised an exception that cannot be sent to another process; the message has its type."""


def packed(value: Any) -> bytes:
    """A pickle with its length."""
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def unpacked(data: bytes) -> Any:
    """The value of a pickle without its length. Only the server and its own process write them."""
    return pickle.loads(data)  # noqa: S301 - not from a client


def answer(data: bytes) -> bytes:
    """Call the function of a request; return the result to send."""
    try:
        function, args, named = unpacked(data)
        return packed((True, function(*args, **named)))
    except Exception as error:  # noqa: BLE001 - the server raises it again
        return _packed_error(error)


def _packed_error(error: Exception) -> bytes:
    try:
        sent = packed((False, error))
        unpacked(sent[LENGTH_BYTES:])
    except Exception:  # noqa: BLE001 - an exception may refuse to be pickled in any way
        return packed((False, CheckFailed(type(error).__name__)))
    return sent


def _serve(requests: BinaryIO, results: BinaryIO) -> None:
    while len(length := requests.read(LENGTH_BYTES)) == LENGTH_BYTES:
        results.write(answer(requests.read(int.from_bytes(length, "big"))))
        results.flush()


def main() -> None:
    """Serve until the input ends."""
    # Signals reach the whole process group; the server still checks while it drains, then closes the input.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    results = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a library prints must not come between the results.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    results.write(READY)
    results.flush()
    _serve(sys.stdin.buffer, results)
