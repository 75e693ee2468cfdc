"""The journal on disk: a directory with the lines of one writer, in files that are sealed when full.

A file's first line continues the chain of the previous file. A full file gets a ``.seal`` file and is made
read-only. ``part.id`` names the directory in the database (``db.journal``), which has its last line.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from voicebot.handoffs.journal_chain import End, JournalBroken, JournalKeys, written

FULL_BYTES = 16 * 1024 * 1024

PART_ID = "part.id"

_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600
_SEALED_MODE = 0o400


class JournalFiles:
    """The files of a directory, open for appending by one process."""

    def __init__(self, directory: Path, keys: JournalKeys, *, full_bytes: int = FULL_BYTES) -> None:
        """Use the files in ``directory``; call ``open`` first."""
        self._directory = directory
        self._keys = keys
        self._full_bytes = full_bytes
        self._lock: IO[bytes] | None = None
        self._file: IO[bytes] | None = None
        self._path = directory
        self._size = 0
        self.end = End()

    def open(self) -> None:
        """Find the end, cut off an incomplete last line, and prepare to append.

        Raises:
            JournalBroken: the last line was altered.
            OSError: the directory or a file cannot be used, or another process has it open.
        """
        self._directory.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        self._directory.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
        self._directory.chmod(_DIRECTORY_MODE)
        self._lock = _open_private(self._directory / "lock")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        files = journal_files(self._directory)
        self.end = End()
        for path in reversed(files):
            path.chmod(_SEALED_MODE if seal_of(path).exists() else _FILE_MODE)
            _truncate_incomplete(path)
            lines = path.read_bytes().splitlines()
            if lines and not self.end.seq:
                _, self.end = self._keys.verified(path.name, len(lines), lines[-1])
        if files and not seal_of(files[-1]).exists():
            self._append_to(files[-1])

    def expect(self, known: End) -> None:
        """Check the end against the last line that is known to have been written.

        Raises:
            JournalBroken: lines are missing at the end, or the last line is another one.
        """
        name = journal_files(self._directory)[-1].name if self.end.seq else self._directory.name
        if self.end.seq < known.seq:
            raise JournalBroken(name, 0, f"missing at the end: {self.end.seq + 1} to {known.seq}")
        if self.end.seq == known.seq and self.end.hash != known.hash:
            raise JournalBroken(name, 0, f"altered: line {known.seq} is not the one that was written")

    def part_id(self) -> UUID | None:
        """The directory's id in the database; None: it has none yet."""
        return read_part_id(self._directory)

    def set_part_id(self, part_id: UUID) -> None:
        """Write the directory's id."""
        with open(self._directory / PART_ID, "xb", opener=_private) as file:
            file.write(f"{part_id}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        _sync_directory(self._directory)

    def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write lines, which have their ``seq``, and return when they are on the disk.

        Raises:
            JournalBroken: another program has changed the file.
            OSError: the lines may or may not have been written; open the journal again to find out.
        """
        if not lines:
            return
        end, text = self.end, bytearray()
        for line in lines:
            chained = self._keys.chained(line, end)
            text += written(chained) + b"\n"
            end = End(chained["seq"], chained["hash"], keyed=True)
        if self._file is None:
            self._append_to(self._directory / f"journal-{lines[0]['seq']:012}.jsonl")
        file = self._file
        if file is None:
            raise OSError("the journal is not open")
        self._check_unchanged(file)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
        self.end = end
        self._size = file.tell()
        if self._size >= self._full_bytes:
            self._seal()

    def close(self) -> None:
        """Close the files and release the lock."""
        for file in (self._file, self._lock):
            if file is not None:
                file.close()
        self._file = self._lock = None

    def _append_to(self, path: Path) -> None:
        self._path = path
        self._file = _open_private(path)
        self._size = self._file.tell()
        # So that the directory entry, not only the contents, survives a power failure.
        _sync_directory(self._directory)

    def _check_unchanged(self, file: IO[bytes]) -> None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            raise JournalBroken(self._path.name, 0, "the file was removed") from None
        if (found.st_ino, found.st_size) != (os.fstat(file.fileno()).st_ino, self._size):
            raise JournalBroken(self._path.name, 0, "altered: another program has changed the file")

    def _seal(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        content = self._path.read_bytes()
        facts = {
            "file": self._path.name,
            "lines": content.count(b"\n"),
            "last_seq": self.end.seq,
            "last_hash": self.end.hash,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        seal = seal_of(self._path)
        with open(seal, "w", encoding="utf-8", opener=_private) as file:
            json.dump(facts, file)
            file.flush()
            os.fsync(file.fileno())
        for path in (self._path, seal):
            path.chmod(_SEALED_MODE)
        _sync_directory(self._directory)


def journal_files(directory: Path) -> list[Path]:
    """The journal's files in order."""
    return sorted(directory.glob("journal-*.jsonl"))


def seal_of(path: Path) -> Path:
    """The seal of a file."""
    return path.with_suffix(".seal")


def read_part_id(directory: Path) -> UUID | None:
    """The id of a directory in the database; None: it has none.

    Raises:
        JournalBroken: the file does not contain one.
    """
    try:
        return UUID((directory / PART_ID).read_text(encoding="ascii").strip())
    except FileNotFoundError:
        return None
    except ValueError:
        raise JournalBroken(PART_ID, 0, "altered: it is not an id") from None


def _truncate_incomplete(path: Path) -> None:
    """Cut off the incomplete last line that a killed process left; complete lines are not changed."""
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        with path.open("r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())


def _open_private(path: Path) -> IO[bytes]:
    return open(path, "ab", opener=_private)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, _FILE_MODE)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
