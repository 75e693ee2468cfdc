"""The chain of the journal: each line has the hash of the previous one, keyed with the server's secret key.

A line's hash is the HMAC-SHA256 of its other members as canonical JSON (sorted keys, no spaces, UTF-8), so
only a holder of the key can write a line. Its member ``key`` names the key, because keys are rotated. The
first line's ``prev`` is 64 zeros. Lines of earlier versions have no ``key``; their hash is a plain SHA-256.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ORIGIN = "0" * 64
MEMBERS = (
    "seq", "at", "written_at", "kind", "call_id", "handoff_id", "goal_id", "intent", "summary", "confidence",
    "auto_proceed", "prev",
)  # fmt: skip
"""The hashed members in the order of the line; ``key`` and ``hash`` follow."""


class JournalBroken(Exception):
    """A line was altered, is missing or was moved. Nothing is repaired; a person must decide."""

    def __init__(self, file: str, line: int, problem: str) -> None:
        self.file = file
        self.line = line
        """Line number in its file, from 1; 0 for the file as a whole."""
        super().__init__(f"{file}, line {line}: {problem}" if line else f"{file}: {problem}")


@dataclass(frozen=True, slots=True)
class End:
    """The end of a chain: the next line has ``seq + 1`` and this hash as its ``prev``."""

    seq: int = 0
    hash: str = ORIGIN
    keyed: bool = False


class JournalKeys:
    """The keys of the chain, each derived from one of the server's keys."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        """Derive them from ``secrets``, the newest first; without any, no keyed line can be verified."""
        derived = [HKDF(SHA256(), 32, salt=None, info=b"voicebot journal").derive(one) for one in secrets]
        self._keys = {hmac.digest(key, b"id", "sha256").hex()[:16]: key for key in derived}

    def chained(self, line: Mapping[str, Any], end: End) -> dict[str, Any]:
        """A line that continues the chain, with its hash by the newest key."""
        key = next(iter(self._keys))
        complete = {name: line.get(name) for name in MEMBERS} | {"prev": end.hash, "key": key}
        return complete | {"hash": self._digest(complete)}

    def verified(self, file: str, number: int, raw: bytes) -> tuple[dict[str, Any], End]:
        """A line as it is in the file, and the end that it makes.

        Raises:
            JournalBroken: it was altered, or its key is not known.
        """
        try:
            line: dict[str, Any] = json.loads(raw)
            seq, key, members = int(line["seq"]), line.get("key"), {*MEMBERS, "hash"}
            if key is not None and key not in self._keys:
                raise JournalBroken(
                    file, number, f"its key {key!r} is not one of VOICEBOT_SECRET_KEY, or it was altered"
                )
            form = members if key is None else members | {"key"}
            intact = set(line) == form and raw == written(line) and self._digest(line) == line["hash"]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise JournalBroken(file, number, "altered: it cannot be read") from None
        if not intact:
            raise JournalBroken(file, number, "altered: it does not match its hash")
        return line, End(seq, line["hash"], key is not None)

    def _digest(self, line: Mapping[str, Any]) -> str:
        members = {name: line.get(name) for name in MEMBERS}
        key = line.get("key")
        if key is not None:
            members["key"] = key
        text = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        if key is None:
            return hashlib.sha256(text).hexdigest()
        return hmac.digest(self._keys[key], text, "sha256").hex()


def written(line: Mapping[str, Any]) -> bytes:
    """A line as it is written, without the line break."""
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode()
