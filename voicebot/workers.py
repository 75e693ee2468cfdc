"""The worker processes of one server (``voicebot serve --workers``), and the load that they share.

Workers share a private directory. Each listens there on a Unix socket for requests of the others, and writes
its load into its own part of a file that all have mapped into memory.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

_LOAD_FILE = "load"
_FIGURES = struct.Struct("=4d")
_ID_BYTES = 16
_REMEMBERED = 64
"""How many of its newest calls a worker publishes. A call is expected for 10 s at most, and no worker opens
more streams in that time."""
_PART_BYTES = _FIGURES.size + _REMEMBERED * _ID_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One process of a server."""

    number: int = 0
    """From 0 to ``count - 1``."""
    count: int = 1
    directory: Path | None = None
    """The private directory that the workers share; None: the server has one process."""

    @property
    def others(self) -> Sequence[int]:
        """The numbers of the others."""
        return [number for number in range(self.count) if number != self.number]

    def socket_of(self, number: int) -> Path:
        """The Unix socket of a worker.

        Raises:
            LookupError: the server has one process.
        """
        if self.directory is None:
            raise LookupError("the server has one process")
        return self.directory / f"{number}.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The load of one worker, or of several together."""

    live: int = 0
    """Calls with a media stream."""
    expected: int = 0
    """Calls that were admitted, and whose media stream is not open yet."""
    late: bool = False
    """Whether the event loop of one of them is late."""


class SharedLoad:
    """The load of all workers of a server. The load of a dead worker is cleared."""

    def __init__(self, worker: Worker) -> None:
        """Map the file of the workers; a server with one process has none and needs none."""
        self._worker = worker
        size = worker.count * _PART_BYTES
        if worker.directory is None:
            self._memory = mmap.mmap(-1, size)
            return
        path = worker.directory / _LOAD_FILE
        with path.open("a+b") as file:
            file.truncate(size)
            self._memory = mmap.mmap(file.fileno(), size)

    def publish(self, load: Load) -> None:
        """Publish the load of this worker."""
        _, _, _, opened = self._figures(self._worker.number)
        self._write(load, opened)

    def opened(self, call_id: UUID) -> None:
        """Publish that the stream of a call is open at this worker."""
        live, expected, late, opened = self._figures(self._worker.number)
        start = self._start(self._worker.number) + _FIGURES.size + int(opened) % _REMEMBERED * _ID_BYTES
        self._memory[start : start + _ID_BYTES] = call_id.bytes
        self._write(Load(live=int(live), expected=int(expected), late=bool(late)), opened + 1)

    def others(self) -> Load:
        """The load of the other workers together."""
        found = [self._figures(number) for number in self._worker.others]
        return Load(
            live=sum(int(live) for live, _, _, _ in found),
            expected=sum(int(expected) for _, expected, _, _ in found),
            late=any(late for _, _, late, _ in found),
        )

    def opened_elsewhere(self) -> Collection[UUID]:
        """The calls whose streams the other workers have opened last."""
        return {call_id for number in self._worker.others for call_id in self._opened_by(number)}

    def clear(self, number: int) -> None:
        """Clear the load of a worker that has ended."""
        start = self._start(number)
        self._memory[start : start + _PART_BYTES] = bytes(_PART_BYTES)

    def _opened_by(self, number: int) -> list[UUID]:
        count = min(int(self._figures(number)[3]), _REMEMBERED)
        start = self._start(number) + _FIGURES.size
        return [
            UUID(bytes=self._memory[start + index * _ID_BYTES : start + (index + 1) * _ID_BYTES])
            for index in range(count)
        ]

    def _figures(self, number: int) -> tuple[float, float, float, float]:
        live, expected, late, opened = _FIGURES.unpack_from(self._memory, self._start(number))
        return live, expected, late, opened

    def _write(self, load: Load, opened: float) -> None:
        start = self._start(self._worker.number)
        _FIGURES.pack_into(self._memory, start, load.live, load.expected, load.late, opened)

    def _start(self, number: int) -> int:
        return number * _PART_BYTES
