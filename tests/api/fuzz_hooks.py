"""What schemathesis does not know by itself: how lines of JSON are sent. It loads this file by its path."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis import SerializationContext


@schemathesis.serializer("application/x-ndjson")
def lines(_: SerializationContext, value: Any) -> bytes:
    """Send a value as the text that it is."""
    return str(value).encode(errors="replace")
