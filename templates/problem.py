"""One thing that is wrong with what an author or a caller's system wrote, said so that they can mend it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum


class Severity(StrEnum):
    """Errors refuse activation; warnings are only told."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A fault, where it is, and what to do about it.

    Attributes:
        pointer: JSON pointer (RFC 6901) into the document that was checked; "" is the whole document.
        code: stable identifier, one of ``templates.check.rules.RULES`` or of ``templates.values``.
        message: what is wrong, naming the parts involved.
        remedy: what the author can do, in words that need no knowledge of our code.
        severity: error or warning.
    """

    pointer: str
    code: str
    message: str
    remedy: str
    severity: Severity = Severity.ERROR

    def to_json(self) -> dict[str, str]:
        """The problem as the API answers it (``errors`` and ``warnings`` are separate lists there)."""
        record = asdict(self)
        del record["severity"]
        return record


def pointer(*parts: str | int) -> str:
    """Join keys and indexes into a JSON pointer, escaping ``~`` and ``/`` as RFC 6901 asks."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
