"""Bounds and forms that an active template keeps and a draft may still lack.

pydantic does not enforce them: they ride along as annotations, the check refuses what breaks them, and the
JSON Schema for editors states them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import Strict


@dataclass(frozen=True, slots=True)
class Bounds:
    """The least and the most that a figure may be, both included."""

    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class TextPattern:
    """A pattern that a whole text has to match."""

    pattern: str

    def matches(self, text: str) -> bool:
        """Whether the text matches from its first character to its last."""
        return re.fullmatch(self.pattern, text) is not None


NAME_LENGTH = 120
"""The most characters of a template's name."""

TOOL_NAME = TextPattern("[a-zA-Z0-9_-]{1,64}")
"""What OpenAI accepts as a function's name, and what we accept wherever a model has to repeat a name."""

VARIABLE_NAME = TextPattern("[A-Za-z_][A-Za-z0-9_]*")
"""What pipecat inserts with ``{{ name }}``."""

E164 = TextPattern(r"\+[1-9][0-9]{6,14}")
"""ITU-T E.164: at most fifteen digits, the first of the country code not zero."""

LANGUAGE = TextPattern(
    "[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*"
)
"""language-script-region-variant of BCP 47 (RFC 5646); a voice knows nothing of extensions."""

ToolName = Annotated[str, TOOL_NAME]
VariableName = Annotated[str, VARIABLE_NAME]
Count = Annotated[int, Strict()]
"""A JSON integer: neither "5" nor true."""
