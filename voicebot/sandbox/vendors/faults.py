"""Faults of the servers: errors, delays and broken connections, switched on and off at run time."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Literal

Server = Literal["openai", "deepgram", "elevenlabs", "twilio", "exotel"]
Kind = Literal["slow", "unauthorized", "rate_limited", "broken", "hang", "drop", "silent"]
Stage = Literal["connect", "message"]

STATUS: dict[Kind, int] = {"unauthorized": 401, "rate_limited": 429, "broken": 500}
"""HTTP status codes of the kinds that are an HTTP error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault.

    Attributes:
        server: the server that it applies to.
        kind: `slow` waits `delay_ms` and then continues normally; `unauthorized`, `rate_limited` (with
            Retry-After) and `broken` answer 401, 429 and 500; `hang` accepts and never answers; `drop` aborts
            the connection; `silent` (stage `message`) makes no audio of a text and sends no final transcript.
        stage: `connect` applies to a request or the handshake of a websocket; `message` applies to a text to
            be spoken, an utterance to be transcribed, or an answer after its headers.
        match: applies only if the path, its query or the body contains this, such as a voice id; in stage
            `message` the path, its query or the text that is spoken, transcribed or answered, and of an
            answer the model in quotation marks.
        count: how many times it applies; None: until it is cleared.
        delay_ms: the delay of `slow`, in ms.
        retry_after_s: the Retry-After of `rate_limited`, in s.
    """

    server: Server
    kind: Kind
    stage: Stage = "connect"
    match: str = ""
    count: int | None = None
    delay_ms: float = 0.0
    retry_after_s: float = 1.0


class Faults:
    """The active faults. Thread-safe.

    Attributes:
        hits: how often a fault has applied since the servers were started.
    """

    def __init__(self) -> None:
        self.hits = 0
        self._on: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Activate a fault; of several that match, the earliest applies."""
        with self._lock:
            self._on.append(fault)

    def clear(self, server: Server | None = None) -> None:
        """Deactivate all faults, or those of one server."""
        with self._lock:
            self._on = [fault for fault in self._on if server is not None and fault.server != server]

    def strike(self, server: Server, stage: Stage, subject: str) -> Fault | None:
        """Return the fault that applies now, and count its use; None when none applies."""
        with self._lock:
            for index, fault in enumerate(self._on):
                if (fault.server, fault.stage) == (server, stage) and fault.match in subject:
                    self.hits += 1
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
