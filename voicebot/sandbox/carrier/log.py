"""What happened in a call, in order, each event with its moment."""

from __future__ import annotations

import time
from collections.abc import Mapping

from voicebot.sandbox.carrier.model import CarrierEvent


class CallLog:
    """Events on the machine's monotonic clock, told relative to the answer."""

    def __init__(self) -> None:
        self._noted: list[tuple[float, str, Mapping[str, object]]] = []
        self._answer: float | None = None

    def note(self, name: str, **data: object) -> None:
        """Note an event at this moment; the one named `answered` is moment 0."""
        now = time.monotonic()
        if name == "answered":
            self._answer = now
        self._noted.append((now, name, data))

    @property
    def events(self) -> tuple[CarrierEvent, ...]:
        """Everything that happened; a call that was never answered counts from its first event."""
        if not self._noted:
            return ()
        zero = self._noted[0][0] if self._answer is None else self._answer
        return tuple(
            CarrierEvent(at_ms=(at - zero) * 1000, name=name, data=data) for at, name, data in self._noted
        )

    @property
    def complaints(self) -> tuple[str, ...]:
        """What the server did that Twilio would call an error, in words."""
        return tuple(str(data["why"]) for _, name, data in self._noted if name == "complaint")
