"""What can go wrong between us and a carrier, each with the facts that a caller decides by."""

from __future__ import annotations


class TelephonyError(Exception):
    """Something between us and a carrier went wrong."""


class BadSignature(TelephonyError):
    """The webhook is not the carrier's, or came to another URL than ours: answer with `Carrier.forbid`."""


class BadWebhook(TelephonyError):
    """The webhook is the carrier's but lacks what we cannot do without: answer 400; a retry does not help."""

    def __init__(self, field: str, remedy: str) -> None:
        """Name the missing or wrong form field, and what would put it right."""
        super().__init__(f"webhook field {field!r}: {remedy}")
        self.field = field
        self.remedy = remedy


class MediaRefused(TelephonyError):
    """The media socket was closed by us before or during the stream, with this WebSocket close code."""

    def __init__(self, close_code: int, reason: str) -> None:
        """Keep the close code (RFC 6455 section 7.4.1) and the reason that was sent with it."""
        super().__init__(f"media socket closed with {close_code}: {reason}")
        self.close_code = close_code
        self.reason = reason


class MediaGone(TelephonyError):
    """The carrier's side of the media socket went away before the stream had begun."""


class CarrierError(TelephonyError):
    """The carrier's REST API refused a request, or could not be reached (`status` 0).

    `code` is the carrier's own error code, `retryable` whether the same request may succeed later, and
    `retry_after_s` when the carrier said how much later. `uncertain` means that the request may have taken
    effect all the same: to repeat it could place a second call.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
        uncertain: bool = False,
    ) -> None:
        """Keep the facts that a caller decides by, so that nobody parses the message."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.uncertain = uncertain
