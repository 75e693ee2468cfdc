"""Classifies a vendor's error: a refused key, an unpaid account, a rate limit, or an outage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from pipecat.utils.errors import extract_http_status_code

from db.provider_health import ProviderFault

MAX_RETRY_AFTER_S = 24 * 3600.0
_UNPAID = ("insufficient_quota", "quota_exceeded", "insufficient_credits", "payment", "billing")
"""Codes of OpenAI, ElevenLabs and Deepgram for an account without credit, in their errors' bodies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A failure as the provider's health records it.

    Attributes:
        fault: its kind; everything that is not a refusal with a known cause is an outage.
        reason: the text to show: the class of the error or its HTTP status, never its message.
        until: when a rate limit ends, if the vendor said so.
    """

    fault: ProviderFault
    reason: str
    until: datetime | None = None


def refusal(error: BaseException | None, now: datetime, reason: str = "") -> Refusal:
    """Classify the error of a vendor's client.

    Args:
        error: what the client raised; None if there is only a reason.
        now: the time from which a Retry-After in seconds counts.
        reason: the text to show, by default the HTTP status or the class of the error.
    """
    status = None if error is None else extract_http_status_code(error)
    shown = reason or (f"HTTP {status}" if status else type(error).__name__ if error else "failed")
    if status in (401, 402, 403, 429) and error is not None and _is_unpaid(status, error):
        return Refusal(fault="billing", reason=shown)
    if status in (401, 403):
        return Refusal(fault="unauthorized", reason=shown)
    if status == 429 and error is not None:
        return Refusal(fault="rate_limited", reason=shown, until=_retry_after(error, now))
    return Refusal(fault="outage", reason=shown)


def _is_unpaid(status: int, error: BaseException) -> bool:
    if status == 402:
        return True
    body = getattr(getattr(error, "response", None), "body", b"") or b""
    text = body.decode(errors="replace") if isinstance(body, bytes) else ""
    text += f" {getattr(error, 'code', '')}"
    return any(code in text.lower() for code in _UNPAID)


def _retry_after(error: BaseException, now: datetime) -> datetime | None:
    headers: Mapping[str, Any] = getattr(getattr(error, "response", None), "headers", None) or {}
    value = str(headers.get("Retry-After", "")).strip()
    try:
        seconds = float(value)
    except ValueError:
        return _as_date(value, now)
    return now + timedelta(seconds=min(max(seconds, 0.0), MAX_RETRY_AFTER_S)) if seconds == seconds else None


def _as_date(value: str, now: datetime) -> datetime | None:
    """A Retry-After that is a date (RFC 9110, 10.2.3), within a day."""
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return min(at, now + timedelta(seconds=MAX_RETRY_AFTER_S))
