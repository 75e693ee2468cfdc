"""Verification of the journal: each directory by its chain, and all directories by the database.

The chain of a directory detects altered, missing and moved lines, but not that lines at its end or the whole
directory are missing. For this the database has the last line of each directory (``db.journal.PartRecord``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from db.journal import PartRecord
from voicebot.handoffs.journal_chain import End, JournalBroken, JournalKeys
from voicebot.handoffs.journal_files import journal_files, read_part_id, seal_of


@dataclass(slots=True)
class VerifiedPart:
    """The lines of one directory, none of which was altered, removed or moved."""

    directory: Path
    part_id: UUID | None
    lines: int = 0
    unkeyed: int = 0
    """Lines from before the chain was keyed. Followed by a keyed line, they are protected by it."""
    end: End = field(default_factory=End)
    spans: list[tuple[int, int]] = field(default_factory=list)
    """Sequence numbers of its lines, as pairs of first and last."""

    def add(self, end: End, *, is_gap: bool) -> None:
        """Count a line; a gap stands for lines that the directory does not have."""
        self.lines += 1
        self.unkeyed += not end.keyed
        seq = end.seq
        if is_gap:
            pass
        elif self.spans and self.spans[-1][1] == seq - 1:
            self.spans[-1] = (self.spans[-1][0], seq)
        else:
            self.spans.append((seq, seq))
        self.end = end


@dataclass(frozen=True, slots=True)
class Verification:
    """All directories that were found, and what is missing."""

    parts: Sequence[VerifiedPart]
    absent: Sequence[PartRecord]
    """Directories that the database knows and that were not found."""
    only_absent: Sequence[tuple[int, int]]
    """Lines that were written to absent directories only."""


def verify(directory: Path, keys: JournalKeys, known: PartRecord | None = None) -> VerifiedPart:
    """Verify one directory, and that it has the line that is ``known`` to be its last one, or a later one.

    Raises:
        JournalBroken: a line was altered, is missing or was moved; it names the first one.
        OSError: a file cannot be read.
    """
    if not directory.is_dir():
        raise NotADirectoryError(f"{directory} is not a directory")
    part = VerifiedPart(directory, read_part_id(directory))
    number, path = 0, directory
    files = journal_files(directory)
    for path in files:
        number = 0
        for number, raw in enumerate(_raw_lines(path, is_open=path == files[-1]), 1):
            _add_line(part, keys, path.name, number, raw, known)
        if seal_of(path).exists():
            _verify_seal(path, number)
    for seal in sorted(directory.glob("journal-*.seal")):
        if not seal.with_suffix(".jsonl").exists():
            raise JournalBroken(seal.with_suffix(".jsonl").name, 0, "missing: the sealed file was removed")
    if known is not None and part.end.seq < known.last_line:
        missing = f"missing at the end: {part.end.seq + 1} to {known.last_line}"
        raise JournalBroken(path.name, number + 1, missing)
    return part


def verify_all(
    directories: Sequence[Path], keys: JournalKeys, known: Mapping[UUID, PartRecord], host: str
) -> Verification:
    """Verify directories, and those of this host that the database knows, as one journal.

    Raises:
        JournalBroken: a line was altered, is missing or was moved, or the database does not know a directory.
        OSError: a file cannot be read.
    """
    given = {directory.absolute() for directory in directories}
    given |= {Path(part.directory) for part in known.values() if part.host == host and is_here(part)}
    parts = []
    for directory in sorted(given):
        part_id = read_part_id(directory)
        if part_id is not None and part_id not in known:
            raise JournalBroken(str(directory), 0, f"the database does not know the part {part_id}")
        parts.append(verify(directory, keys, None if part_id is None else known[part_id]))
    found = {part.part_id for part in parts}
    absent = [part for part in known.values() if part.id not in found]
    last = max((part.last_line for part in absent), default=0)
    return Verification(parts, absent, _holes([span for part in parts for span in part.spans], last))


def is_here(part: PartRecord) -> bool:
    """Whether a directory that the database knows is on this host, at its place."""
    return read_part_id(Path(part.directory)) == part.id


def _holes(spans: Sequence[tuple[int, int]], last: int) -> list[tuple[int, int]]:
    """The numbers from 1 to ``last`` that are in no span."""
    holes, expected = [], 1
    for first, end in sorted(spans):
        if first > expected:
            holes.append((expected, min(first - 1, last)))
        expected = max(expected, end + 1)
    if expected <= last:
        holes.append((expected, last))
    return [(first, end) for first, end in holes if first <= end]


def _add_line(
    part: VerifiedPart, keys: JournalKeys, file: str, number: int, raw: bytes, known: PartRecord | None
) -> None:
    line, end = keys.verified(file, number, raw)
    expected = part.end.seq + 1
    if end.seq > expected and line["kind"] != "gap":
        raise JournalBroken(file, number, f"missing before it: {expected} to {end.seq - 1}")
    if end.seq < expected:
        raise JournalBroken(file, number, f"moved: found {end.seq}, expected {expected}")
    if line["prev"] != part.end.hash:
        raise JournalBroken(file, number, "altered: it does not continue the previous line")
    if part.end.keyed and not end.keyed:
        raise JournalBroken(file, number, "altered: it is not keyed, and the line before it is")
    if known is not None and end.seq == known.last_line and end.hash != known.last_hash:
        raise JournalBroken(file, number, "altered: it is not the line that was written")
    part.add(end, is_gap=line["kind"] == "gap")


def _verify_seal(path: Path, lines: int) -> None:
    seal = seal_of(path)
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


def _raw_lines(path: Path, *, is_open: bool) -> Iterator[bytes]:
    """The lines of a file; without an incomplete last line, which is being written or will be cut off."""
    with path.open("rb") as file:
        for raw in file:
            if raw.endswith(b"\n") or not is_open or seal_of(path).exists():
                yield raw.removesuffix(b"\n")
