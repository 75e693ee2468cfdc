"""Ranges and patterns that an active template must satisfy and a draft may violate.

pydantic does not enforce them: they are annotations, which the check applies and the JSON Schema states.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import Strict


@dataclass(frozen=True, slots=True)
class Bounds:
    """Range of a number, both ends included."""

    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class TextPattern:
    """A regular expression that a whole string must match."""

    pattern: str

    def matches(self, text: str) -> bool:
        """Whether the whole text matches."""
        return re.fullmatch(self.pattern, text) is not None


NAME_LENGTH = 120
"""Maximum number of characters of a template's name."""

TOOL_NAME = TextPattern("[a-zA-Z0-9_-]{1,64}")
"""Function names that OpenAI accepts; also used for other names that a model must repeat."""

VARIABLE_NAME = TextPattern("[A-Za-z_][A-Za-z0-9_]*")
"""Names that pipecat inserts with ``{{ name }}``."""

E164 = TextPattern(r"\+[1-9][0-9]{6,14}")
"""ITU-T E.164: at most 15 digits; the country code does not begin with zero."""

LANGUAGE = TextPattern(
    "[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*"
)
"""Language, script, region and variants of BCP 47 (RFC 5646), without extensions."""

VOICE_ID = TextPattern("[A-Za-z0-9_-]{1,64}")
"""Voice ids; they are used in the path of a provider's URL."""

MODEL_NAME = TextPattern("[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")
"""Model names; they are used in a provider's URL."""

ToolName = Annotated[str, TOOL_NAME]
VariableName = Annotated[str, VARIABLE_NAME]
Count = Annotated[int, Strict()]
"""A JSON integer: "5" and true are refused."""
