"""The size of a JSON text, measured without parsing it: in time linear in its length, 10 ms per MiB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np


def _table(characters: bytes, value: int) -> list[tuple[int, int]]:
    return [(character, value) for character in characters]


_LEVEL = np.zeros(256, dtype=np.int8)
for _character, _value in (*_table(b"[{", 1), *_table(b"]}", -1)):
    _LEVEL[_character] = _value


@dataclass(frozen=True, slots=True)
class JsonSize:
    """How deep a text is, and how many values it has. A text that is not JSON has a size too."""

    depth: int
    """Levels of arrays and objects."""
    values: int
    """At least the number of values: opening brackets and commas, and one."""

    @classmethod
    def of(cls, text: bytes) -> Self:
        """Measure a text in UTF-8."""
        # Without escapes, every second quotation mark ends a string.
        plain = text.replace(b"\\\\", b"").replace(b'\\"', b"")
        characters = np.frombuffer(plain, dtype=np.uint8)
        if not len(characters):
            return cls(0, 0)
        outside = np.bitwise_xor.accumulate(characters == ord('"')) == 0
        marks = characters[outside]
        levels = _LEVEL[marks]
        opened = int(np.count_nonzero(levels == 1))
        depth = int(np.cumsum(levels, dtype=np.int32).max(initial=0))
        return cls(depth, 1 + opened + int(np.count_nonzero(marks == ord(","))))
