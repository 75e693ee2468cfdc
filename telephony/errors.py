"""Errors between this server and a carrier."""

from __future__ import annotations


class TelephonyError(Exception):
    """Base class of the errors between this server and a carrier."""


class BadSignature(TelephonyError):
    """The webhook is not signed by the carrier for this URL; answer with `Carrier.forbid`."""


class BadWebhook(TelephonyError):
    """A required field of a verified webhook is missing or invalid; answer 400. A retry does not help."""

    def __init__(self, field: str, remedy: str) -> None:
        """Name the missing or invalid form field, and the remedy."""
        super().__init__(f"webhook field {field!r}: {remedy}")
        self.field = field
        self.remedy = remedy


class TooManyFields(TelephonyError):
    """A webhook has more fields than a carrier sends; answer 413. None of them was read."""


class MediaRefused(TelephonyError):
    """We closed the media socket, with this WebSocket close code."""

    def __init__(self, close_code: int, reason: str) -> None:
        """Store the close code (RFC 6455, section 7.4.1) and the reason."""
        super().__init__(f"media socket closed with {close_code}: {reason}")
        self.close_code = close_code
        self.reason = reason


class MediaGone(TelephonyError):
    """The carrier closed the media socket before the stream began."""


class CarrierError(TelephonyError):
    """The carrier's REST API refused a request or could not be reached.

    Attributes:
        status: HTTP status; 0 if there was no response.
        code: the carrier's error code.
        retryable: whether the same request may succeed later.
        retry_after_s: seconds to wait, if the carrier gave them.
        uncertain: whether the request may have been carried out; a retry could place a second call.
        account_refused: whether the carrier refuses the account or its credentials, whatever the request.
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
        account_refused: bool = False,
    ) -> None:
        """Store the attributes."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.uncertain = uncertain
        self.account_refused = account_refused


class CallIsOver(CarrierError):
    """The carrier refused a request because the call has ended. A retry does not help."""

    def __init__(self, refused: CarrierError) -> None:
        """Take the message, the status and the code of the refusal."""
        super().__init__(str(refused), status=refused.status, code=refused.code)
