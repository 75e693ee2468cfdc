"""Functions that tests have called in the process of a ``CheckPool``, which imports this module."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path


class Unpicklable(Exception):
    """An exception that cannot be made from its arguments again."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one + other)


def process_id() -> int:
    """The process that runs this."""
    return os.getpid()


def niceness() -> int:
    """The niceness of the process that runs this."""
    return os.nice(0)


def modules() -> set[str]:
    """The top-level packages that the process has imported."""
    return {name.partition(".")[0] for name in sys.modules}


def note(log: Path, word: str) -> None:
    """Add a word to a file."""
    with log.open("a") as file:
        file.write(f"{word}\n")


def wait_for(signal_file: Path) -> str:
    """Wait until a file exists."""
    while not signal_file.exists():
        time.sleep(0.005)
    return "waited"


def overlapping(directory: Path) -> bool:
    """Whether another call of this function is under way."""
    marker = directory / "running"
    if marker.exists():
        return True
    marker.touch()
    time.sleep(0.002)
    marker.unlink()
    return False


def words(log: Path) -> list[str]:
    """The words in a file; none if it does not exist."""
    return log.read_text().split() if log.exists() else []


def touch(file: Path) -> None:
    """Create a file."""
    file.touch()


def forever(log: Path) -> None:
    """Note the process, and never return."""
    note(log, str(os.getpid()))
    while True:
        pass


def die() -> None:
    """Kill the process that runs this."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(marker: Path) -> int:
    """Kill the process that runs this, the first time; later return its id."""
    if not marker.exists():
        marker.touch()
        die()
    return os.getpid()


def fail() -> None:
    """Raise an exception that cannot be sent."""
    raise Unpicklable("a", "b")


def printing() -> str:
    """Print to standard output, where the results go."""
    print("something")
    return "printed"
