"""The journal on disk: lines of JSON, each with the hash of the previous one, in files sealed when full.

A line's hash is the SHA-256 of its other members as canonical JSON (sorted keys, no spaces, UTF-8). The
first line's ``prev`` is 64 zeros; a file's first line continues the previous file. A full file gets a
``.seal`` file and is made read-only.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ORIGIN = "0" * 64
MEMBERS = (
    "seq", "at", "written_at", "kind", "call_id", "handoff_id", "goal_id", "intent", "summary", "confidence",
    "auto_proceed", "prev",
)  # fmt: skip
"""The hashed members in the order of the line; ``hash`` follows."""

FULL_BYTES = 16 * 1024 * 1024


class JournalBroken(Exception):
    """A line was altered, is missing or was moved. Nothing is repaired; a person must decide."""

    def __init__(self, file: str, line: int, problem: str) -> None:
        self.file = file
        self.line = line
        """Line number in its file, from 1."""
        super().__init__(f"{file}, line {line}: {problem}")


@dataclass(frozen=True, slots=True)
class End:
    """The end of the journal: the next line has ``seq + 1`` and this hash as its ``prev``."""

    seq: int = 0
    hash: str = ORIGIN


def digest(line: Mapping[str, Any]) -> str:
    """The hash of a line."""
    members = {name: line.get(name) for name in MEMBERS}
    text = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


class JournalFiles:
    """The files of a directory, open for appending by one process."""

    def __init__(self, directory: Path, *, full_bytes: int = FULL_BYTES) -> None:
        """Use the files in ``directory``; call ``open`` first."""
        self._directory = directory
        self._full_bytes = full_bytes
        self._lock: IO[bytes] | None = None
        self._file: IO[bytes] | None = None
        self._path = directory
        self.end = End()

    def open(self) -> None:
        """Find the end, cut off an incomplete last line, and prepare to append.

        Raises:
            OSError: the directory or a file cannot be used, or another process has it open.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        self._lock = (self._directory / "lock").open("ab")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        files = journal_files(self._directory)
        self.end = End()
        for path in reversed(files):
            _truncate_incomplete(path)
            last = _last_line(path)
            if last is not None:
                self.end = End(int(last["seq"]), str(last["hash"]))
                break
        if files and not _seal_of(files[-1]).exists():
            self._append_to(files[-1])

    def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write lines, which have their ``seq``, and return when they are on the disk.

        Raises:
            OSError: the lines may or may not have been written; open the journal again to find out.
        """
        if not lines:
            return
        end, text = self.end, bytearray()
        for line in lines:
            chained: dict[str, Any] = {name: line.get(name) for name in MEMBERS} | {"prev": end.hash}
            chained["hash"] = digest(chained)
            text += json.dumps(chained, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
            end = End(chained["seq"], chained["hash"])
        if self._file is None:
            self._append_to(self._directory / f"journal-{lines[0]['seq']:012}.jsonl")
        file = self._file
        if file is None:
            raise OSError("the journal is not open")
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
        self.end = end
        if file.tell() >= self._full_bytes:
            self._seal()

    def close(self) -> None:
        """Close the files and release the lock."""
        for file in (self._file, self._lock):
            if file is not None:
                file.close()
        self._file = self._lock = None

    def _append_to(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab")
        # So that the directory entry, not only the contents, survives a power failure.
        _sync_directory(self._directory)

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
        seal = _seal_of(self._path)
        with seal.open("w", encoding="utf-8") as file:
            json.dump(facts, file)
            file.flush()
            os.fsync(file.fileno())
        for path in (self._path, seal):
            path.chmod(0o444)
        _sync_directory(self._directory)


def journal_files(directory: Path) -> list[Path]:
    """The journal's files in order."""
    return sorted(directory.glob("journal-*.jsonl"))


def verify(directory: Path) -> int:
    """Verify the whole journal; returns its number of lines.

    Raises:
        JournalBroken: a line was altered, is missing or was moved; it names the first one.
        OSError: a file cannot be read.
    """
    end, count = End(), 0
    for path in journal_files(directory):
        number = 0
        for number, raw in enumerate(_raw_lines(path), 1):
            end = _verified(path.name, number, raw, end)
            count += 1
        seal = _seal_of(path)
        if seal.exists():
            _verify_seal(path, seal, number)
    return count


def _verified(file: str, number: int, raw: bytes, end: End) -> End:
    try:
        line = json.loads(raw)
        seq, stored = line["seq"], line["hash"]
        intact = digest(line) == stored and set(line) == {*MEMBERS, "hash"} and raw == _written(line)
    except (ValueError, KeyError, TypeError):
        raise JournalBroken(file, number, "altered: it cannot be read") from None
    if not intact:
        raise JournalBroken(file, number, "altered: it does not match its hash")
    expected = end.seq + 1
    if seq > expected and line["kind"] != "gap":
        raise JournalBroken(file, number, f"missing before it: {expected} to {seq - 1}")
    if seq < expected:
        raise JournalBroken(file, number, f"moved: found {seq}, expected {expected}")
    if line["prev"] != end.hash:
        raise JournalBroken(file, number, "altered: it does not continue the previous line")
    return End(seq, stored)


def _written(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode()


def _verify_seal(path: Path, seal: Path, lines: int) -> None:
    try:
        facts = json.loads(seal.read_text(encoding="utf-8"))
        expected, sha256 = int(facts["lines"]), facts["sha256"]
    except (ValueError, KeyError, TypeError):
        raise JournalBroken(seal.name, 1, "altered: the seal cannot be read") from None
    if lines < expected:
        raise JournalBroken(
            path.name, lines + 1, f"missing: {expected - lines} at the end of the sealed file"
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise JournalBroken(path.name, lines, "altered: the file does not match its seal")


def _raw_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for raw in file:
            yield raw.removesuffix(b"\n")


def _last_line(path: Path) -> dict[str, Any] | None:
    lines = path.read_bytes().splitlines()
    if not lines:
        return None
    line: dict[str, Any] = json.loads(lines[-1])
    return line


def _truncate_incomplete(path: Path) -> None:
    """Cut off the incomplete last line that a killed process left; complete lines are not changed."""
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        with path.open("r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())


def _seal_of(path: Path) -> Path:
    return path.with_suffix(".seal")


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
