"""Samples the main thread of a program: ``python -m bench.sampler FILE MODULE [ARGUMENT …]``.

Runs ``MODULE`` as ``python -m`` would. After every 5 ms of CPU time of the process, the function that runs in
the main thread is counted, and once each function that called it. SIGUSR1 starts the counts again. They are
written to ``FILE`` every 100 samples.
"""

from __future__ import annotations

import json
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

INTERVAL_S = 0.005
WRITE_EVERY = 100
TOP = 60


class Sampler:
    """Counts which functions the main thread runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own: Counter[str] = Counter()
        self._inclusive: Counter[str] = Counter()
        self._is_sampling = False
        self._starts_again = False

    def start(self) -> None:
        """Sample for as long as the process lives; call it in the main thread."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.signal(signal.SIGUSR1, self._start_again)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def _start_again(self, *_: object) -> None:
        self._starts_again = True  # a sample may be counted at present

    def _sample(self, _: int, frame: FrameType | None) -> None:
        """Count what runs, unless that is this function: writing the file takes longer than an interval."""
        if frame is None or self._is_sampling:
            return
        self._is_sampling = True
        try:
            self._count(frame)
        finally:
            self._is_sampling = False

    def _count(self, frame: FrameType) -> None:
        if self._starts_again:
            self._starts_again = False
            self._own.clear()
            self._inclusive.clear()
        self._own[_name(frame)] += 1
        stack: set[str] = set()
        caller: FrameType | None = frame
        while caller is not None:
            stack.add(_name(caller))
            caller = caller.f_back
        self._inclusive.update(stack)
        if self._own.total() % WRITE_EVERY == 0:
            self._write()

    def _write(self) -> None:
        samples = self._own.total()
        shares = {
            "samples": samples,
            "own_percent": _shares(self._own, samples),
            "inclusive_percent": _shares(self._inclusive, samples),
        }
        self._path.write_text(json.dumps(shares))


def _name(frame: FrameType) -> str:
    code = frame.f_code
    return f"{'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_qualname}"


def _shares(counts: Counter[str], samples: int) -> dict[str, float]:
    return {name: round(100 * count / samples, 1) for name, count in counts.most_common(TOP)}


def main() -> None:
    """Start sampling and run the module."""
    path, module = Path(sys.argv[1]), sys.argv[2]
    sys.argv = sys.argv[2:]
    Sampler(path).start()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)  # after the end its signal would kill the process


if __name__ == "__main__":
    main()
