"""Recognises webhooks that a carrier repeats byte for byte, when repeating them has no effect.

Up to half of a carrier's status callbacks are repetitions. Without this, each would be verified and parsed
like the first one. The protocol of the server looks them up, and `webhook_path` adds them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from prometheus_client import Histogram

FINGERPRINT = "fingerprint"
"""Where the state of a request has its fingerprint, if it is a webhook."""

MOST = 10_000
"""How many requests are remembered; an entry has about 150 bytes."""

_DIGEST_BYTES = 16


def fingerprint(scope: Mapping[str, Any], body: bytes | bytearray) -> bytes:
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
        self._known = OrderedDict[bytes, Histogram]()  # a dict searches for its first key

    def seconds(self, request: bytes) -> Histogram | None:
        """The metric of a request that was handled and has no effect any more; None: it is unknown."""
        return self._known.get(request)

    def add(self, request: bytes, seconds: Histogram) -> None:
        """Remember a request, in place of the oldest one if there are too many.

        Args:
            request: its fingerprint.
            seconds: counts its answer, and those of its repetitions.
        """
        self._known[request] = seconds
        if len(self._known) > MOST:
            self._known.popitem(last=False)

    def clear(self) -> None:
        """Remember none."""
        self._known.clear()
