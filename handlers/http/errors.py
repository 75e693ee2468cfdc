"""The failures of an HTTP function. The model reads their messages.

A message never contains data from the server, words of the caller, a header or a URL.
"""

from __future__ import annotations

from typing import Any, ClassVar

SAFE_METHODS = frozenset({"GET", "HEAD"})
"""The safe methods (RFC 9110, section 9.2.1) among those that a function can declare."""

_MAY_BE_DONE = " It is unknown whether the request was carried out: do not repeat it until this is known."
_HINTS = {
    400: "It did not understand these values.",
    401: "The access to the server is not configured correctly.",
    403: "The server does not permit this request.",
    404: "It found nothing for these values.",
    409: "The request conflicts with existing data.",
    410: "The requested data no longer exists.",
    422: "It did not accept these values.",
    429: "It receives too many requests.",
}


class HttpFailure(Exception):
    """Base class: the function failed; the message is for the model.

    Attributes:
        code: identifier of the failure.
        retryable: whether the same request may succeed later, and cannot have been carried out already.
    """

    code: ClassVar[str]
    retryable: bool = False

    def to_result(self) -> dict[str, Any]:
        """The result for the model."""
        return {"status": "failed", "code": self.name(), "message": str(self), "retryable": self.retryable}

    def name(self) -> str:
        """The code for the model and the log."""
        return self.code


class InvalidArguments(HttpFailure):
    """The arguments do not match the declared parameters. Nothing was sent; the model may correct them."""

    code = "invalid_arguments"

    def __init__(self, problems: list[str]) -> None:
        super().__init__(f"Not done. {'; '.join(problems)}. Correct the arguments and call again.")


class InvalidDeclaration(HttpFailure):
    """The declaration is invalid and its author must correct it. Nothing was sent."""

    code = "misdeclared"


class AddressRefused(HttpFailure):
    """The server's address is neither public nor in ``VOICEBOT_HTTP_ALLOW``. Nothing was sent."""

    code = "address_refused"

    def __init__(self) -> None:
        super().__init__("Not done: functions are not allowed to connect to the server's address.")


class RedirectRefused(HttpFailure):
    """The server redirected the request to an address that is not allowed, or too often."""

    code = "redirect_refused"

    def __init__(self, why: str) -> None:
        super().__init__(f"The server redirected the request {why}.")


class Unreachable(HttpFailure):
    """There was no connection, or it broke before the response was complete.

    ``sent`` is True if the request may have reached the server.
    """

    code = "unreachable"

    def __init__(self, method: str, *, sent: bool) -> None:
        self.sent = sent
        uncertain = sent and method not in SAFE_METHODS
        self.retryable = not uncertain
        happened = "The connection to the server broke." if sent else "The server cannot be reached now."
        super().__init__(happened + (_MAY_BE_DONE if uncertain else ""))


class NoAnswer(HttpFailure):
    """The response was not complete within ``timeout_ms``."""

    code = "timeout"

    def __init__(self, method: str, timeout_ms: int) -> None:
        uncertain = method not in SAFE_METHODS
        self.retryable = not uncertain
        happened = f"The server did not answer within {timeout_ms / 1000:g} s."
        super().__init__(happened + (_MAY_BE_DONE if uncertain else ""))


class StatusRefused(HttpFailure):
    """The server answered with a status other than 2xx."""

    code = "http"

    def __init__(self, status: int) -> None:
        self._status = status
        self.retryable = status == 429
        hint = _HINTS.get(status) or (
            "The server has an internal problem." if status >= 500 else "The request was not carried out."
        )
        super().__init__(f"The server answered with status {status}. {hint}")

    def name(self) -> str:
        """E.g. ``http_404``."""
        return f"http_{self._status}"


class UnreadableAnswer(HttpFailure):
    """The server reported success, but its response cannot be read."""

    code = "unreadable_answer"

    def __init__(self, why: str) -> None:
        super().__init__(f"The server reports success, but its answer {why}.")


class InternalError(HttpFailure):
    """An unexpected exception in voicebot; see the log."""

    code = "internal_error"

    def __init__(self) -> None:
        super().__init__("The function failed because of an internal error.")
