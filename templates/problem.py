"""``Problem``: a problem in a document, with its place and a remedy."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from enum import StrEnum


class Severity(StrEnum):
    """Errors prevent activation; warnings and notes do not. A note is not a mistake."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem in a document.

    Attributes:
        pointer: JSON pointer (RFC 6901) into the checked document; "" is the whole document.
        code: stable identifier: a key of ``templates.check.rules.RULES``, or a code of ``templates.values``.
        message: what is wrong.
        remedy: what the author can do.
        severity: error, warning or note.
    """

    pointer: str
    code: str
    message: str
    remedy: str
    severity: Severity = Severity.ERROR

    def to_json(self) -> dict[str, str]:
        """The problem as the API answers it, without the severity."""
        record = asdict(self)
        del record["severity"]
        return record


_WORDS_OF_JSON = (
    (re.compile(r"^Value error, "), ""),
    (re.compile(r"a valid (?:tuple|list)\b"), "a list"),
    (re.compile(r"a valid dictionary(?: or (?:instance|object) .*)?"), "an object"),
    (re.compile(r"^(?:Tuple|List) should have"), "A list should have"),
    (re.compile(r" after validation\b"), ""),
)


def in_words_of_json(message: str) -> str:
    """A message of pydantic without the words of Python for what a client has written in JSON."""
    for words, plain in _WORDS_OF_JSON:
        message = words.sub(plain, message)
    return message


def pointer(*parts: str | int) -> str:
    """Join keys and indexes into a JSON pointer (RFC 6901), escaping ``~`` and ``/``."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
