"""Phone numbers as Exotel writes them, and E.164.

Indian numbers come as `09876543210` (with the trunk prefix), `9876543210`, `919876543210` or E.164; other
countries' with their country code.
"""

from __future__ import annotations

import re

_SEPARATORS = re.compile(r"[\s().-]")
_NATIONAL_DIGITS = 10
_INDIA = "+91"


def e164(number: str) -> str:
    """The number in E.164; what is no number, such as the word of a withheld caller, is returned as it is.

    A plus sign that was not escaped in a query has arrived as a space.
    """
    digits = _SEPARATORS.sub("", number)
    international = digits.startswith(("+", "00"))
    digits = digits.removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        return number.strip()
    digits = digits.removeprefix("00") if international else digits
    if international:
        return f"+{digits}"
    national = digits.removeprefix("0")
    return f"{_INDIA}{national}" if len(national) == _NATIONAL_DIGITS else f"+{national}"
