"""Recognises webhooks that a carrier repeats byte for byte, when repeating them has no effect.

Up to half of a carrier's status callbacks are repetitions. Without this, each would be verified and parsed
like the first one.
"""

from __future__ import annotations

from hashlib import blake2b

from starlette.types import Scope

MOST = 10_000
"""How many requests are remembered; an entry has about 150 bytes."""

_DIGEST_BYTES = 16


def fingerprint(scope: Scope, body: bytes) -> bytes:
    """A digest of everything that a carrier's request consists of, its credentials included."""
    digest = blake2b(digest_size=_DIGEST_BYTES)
    head = [b"%s:%s" % pair for pair in scope["headers"]]
    line = f"{scope['method']} {scope['scheme']}:{scope['root_path']}".encode()
    # None of these parts can contain a line feed.
    digest.update(b"\n".join((line, scope["raw_path"], scope["query_string"], *head, b"", body)))
    return digest.digest()


class SettledRequests:
    """The latest requests whose repetition has no effect, each by its fingerprint."""

    def __init__(self) -> None:
        """Start with none."""
        self._known: dict[bytes, None] = {}

    def __contains__(self, request: bytes) -> bool:
        """Whether a request with this fingerprint was verified and handled, and has no effect any more."""
        return request in self._known

    def add(self, request: bytes) -> None:
        """Remember a request, in place of the oldest one if there are too many."""
        self._known[request] = None
        if len(self._known) > MOST:
            del self._known[next(iter(self._known))]

    def clear(self) -> None:
        """Remember none."""
        self._known.clear()
