"""What `voicebot journal verify` reports."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from db.journal import PartRecord
from voicebot.handoffs import journal_verification
from voicebot.handoffs.journal_chain import JournalKeys
from voicebot.handoffs.journal_verification import Verification, VerifiedPart


@dataclass(frozen=True, slots=True)
class Report:
    """What was verified, in lines of text."""

    lines: Sequence[str]
    complete: bool
    """False if lines are only in directories that were not found."""


def verify(directories: Sequence[Path], keys: JournalKeys, known: Mapping[UUID, PartRecord] | None) -> Report:
    """Verify directories; without ``known`` (the parts in the database), each one separately.

    Raises:
        JournalBroken: a line was altered, is missing or was moved.
        OSError: a file cannot be read.
    """
    if known is None:
        parts = [journal_verification.verify(directory, keys) for directory in directories]
        note = "The ends were not compared with the database: lines may be missing there."
        return Report([*map(_part, parts), note], complete=True)
    found = journal_verification.verify_all(directories, keys, known, socket.gethostname())
    lines = [*map(_part, found.parts), *map(_absent, found.absent)]
    if found.only_absent:
        spans = ", ".join(f"{first} to {last}" for first, last in found.only_absent)
        lines.append(f"Not verified, because they are in directories that were not found: lines {spans}.")
    else:
        lines.append(_total(found))
    return Report(lines, complete=not found.only_absent)


def _part(part: VerifiedPart) -> str:
    text = f"{part.directory}: {part.lines} lines, none altered, missing or moved."
    if part.unkeyed and part.unkeyed == part.lines:
        return f"{text} None is keyed: whoever can write the files could have made all of them."
    if part.unkeyed:
        return f"{text} The first {part.unkeyed} are from before the journal was keyed; those after them are."
    return text


def _absent(part: PartRecord) -> str:
    when = part.updated_at.isoformat(timespec="seconds")
    text = f"{part.directory} on {part.host} was not found: {part.last_line} lines, the last at {when}."
    return f"{text} If it is lost for good: voicebot journal forget {part.id}"


def _total(found: Verification) -> str:
    last = max((part.end.seq for part in found.parts), default=0)
    directories = f"{len(found.parts)} {'directory' if len(found.parts) == 1 else 'directories'}"
    return f"The journal has {last} lines in {directories}, and was found whole."
