"""Misbehaviour on request: what a vendor may do to its customers, told to a server at run time."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Literal

Server = Literal["openai", "deepgram", "elevenlabs", "twilio"]
Kind = Literal["slow", "unauthorized", "rate_limited", "broken", "hang", "drop"]
Stage = Literal["connect", "message"]

STATUS: dict[Kind, int] = {"unauthorized": 401, "rate_limited": 429, "broken": 500}
"""HTTP status of the kinds that are an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to misbehave.

    Attributes:
        server: who misbehaves.
        kind: `slow` waits `delay_ms` and then goes on as usual; `unauthorized`, `rate_limited` (with
            Retry-After) and `broken` answer 401, 429 and 500; `hang` accepts and never answers; `drop` cuts
            the connection.
        stage: `connect` strikes a request or a websocket's handshake. `message` strikes later: a text sent to
            be spoken, an utterance to be transcribed, an answer after its headers.
        match: strikes only where the path, its query or what was sent contains this; a voice id, say.
        count: strikes so often and is then forgotten; None: always, until it is cleared.
        delay_ms: for `slow`.
        retry_after_s: for `rate_limited`.
    """

    server: Server
    kind: Kind
    stage: Stage = "connect"
    match: str = ""
    count: int | None = None
    delay_ms: float = 0.0
    retry_after_s: float = 1.0


class Faults:
    """The faults that are on. Safe to use from any thread."""

    def __init__(self) -> None:
        self._on: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Turn a fault on; earlier ones come first where several match."""
        with self._lock:
            self._on.append(fault)

    def clear(self, server: Server | None = None) -> None:
        """Turn all faults off, or those of one server."""
        with self._lock:
            self._on = [fault for fault in self._on if server is not None and fault.server != server]

    def strike(self, server: Server, stage: Stage, subject: str) -> Fault | None:
        """Return the fault that strikes now, used up by one; None when everything is well."""
        with self._lock:
            for index, fault in enumerate(self._on):
                if (fault.server, fault.stage) == (server, stage) and fault.match in subject:
                    self._use(index, fault)
                    return fault
        return None

    def _use(self, index: int, fault: Fault) -> None:
        if fault.count is None:
            return
        if fault.count <= 1:
            del self._on[index]
        else:
            self._on[index] = replace(fault, count=fault.count - 1)
