"""Why a request was not made, or brought nothing: each failure in words that a model may read.

A message never holds what the server sent, what the caller said, a header or a URL.
"""

from __future__ import annotations

from typing import Any, ClassVar

SAFE_METHODS = frozenset({"GET", "HEAD"})
"""Methods that change nothing at the server (RFC 9110, 9.2.1), as far as they can be declared."""

_UNCERTAIN = " It may or may not have been done: do not repeat it before this is settled."
_HINTS = {
    400: "It did not understand these values.",
    401: "Our access to it is not set up properly.",
    403: "It does not let us do this.",
    404: "It has nothing under these values.",
    409: "It says that this conflicts with what is there already.",
    410: "What was asked for is no longer there.",
    422: "It did not accept these values.",
    429: "It is being asked too often.",
}


class HttpFailure(Exception):
    """The function did not do its work; the text says why, for the model.

    ``code`` is for programs, ``retryable`` says whether the same request may succeed a little later without
    doing anything twice.
    """

    code: ClassVar[str]
    retryable: bool = False

    def told(self) -> dict[str, Any]:
        """What the model is given."""
        return {"status": "failed", "code": self.name(), "message": str(self), "retryable": self.retryable}

    def name(self) -> str:
        """The code, with what belongs to it."""
        return self.code


class InvalidArguments(HttpFailure):
    """The model's arguments do not fit the declared parameters; nothing was sent. It may correct them."""

    code = "invalid_arguments"

    def __init__(self, problems: list[str]) -> None:
        super().__init__(f"Not done. {'; '.join(problems)}. Correct the arguments and call again.")


class Misdeclared(HttpFailure):
    """The declaration cannot be turned into a request; only its author can help. Nothing was sent."""

    code = "misdeclared"


class AddressRefused(HttpFailure):
    """The server's address is not on the open internet, nor in ``VOICEBOT_HTTP_ALLOW``; nothing was sent."""

    code = "address_refused"

    def __init__(self) -> None:
        super().__init__("Not done: the server's address is one that functions may not reach.")


class RedirectRefused(HttpFailure):
    """The server pointed to a place where the request may not follow, or too often."""

    code = "redirect_refused"

    def __init__(self, why: str) -> None:
        super().__init__(f"The server sent the request on, {why}.")


class Unreachable(HttpFailure):
    """No connection, or it broke before the answer was complete. ``sent``: the request may have arrived."""

    code = "unreachable"

    def __init__(self, method: str, *, sent: bool) -> None:
        self.sent = sent
        uncertain = sent and method not in SAFE_METHODS
        self.retryable = not uncertain
        happened = "The connection to the server broke." if sent else "The server cannot be reached now."
        super().__init__(happened + (_UNCERTAIN if uncertain else ""))


class NoAnswer(HttpFailure):
    """The answer was not complete within the function's time."""

    code = "timeout"

    def __init__(self, method: str, timeout_ms: int) -> None:
        uncertain = method not in SAFE_METHODS
        self.retryable = not uncertain
        happened = f"The server did not answer within {timeout_ms / 1000:g} s."
        super().__init__(happened + (_UNCERTAIN if uncertain else ""))


class StatusRefused(HttpFailure):
    """The server answered with a status that is not success."""

    code = "http"

    def __init__(self, status: int) -> None:
        self._status = status
        self.retryable = status == 429
        hint = _HINTS.get(status) or ("It has trouble of its own." if status >= 500 else "It did not do it.")
        super().__init__(f"The server answered with status {status}. {hint}")

    def name(self) -> str:
        """E.g. ``http_404``."""
        return f"http_{self._status}"


class UnreadableAnswer(HttpFailure):
    """The server says it succeeded, but its answer is not what it claims to be."""

    code = "unreadable_answer"

    def __init__(self, why: str) -> None:
        super().__init__(f"The server says that it was done, but its answer {why}.")


class Broken(HttpFailure):
    """A defect of ours; the log has it."""

    code = "internal_error"

    def __init__(self) -> None:
        super().__init__("The function failed for a reason that lies with us.")
