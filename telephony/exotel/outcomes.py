"""How Exotel says that a call, or its connection with a second party, has ended.

Sources: the pages "Call Status" and "Working with Passthru Applet" on support.exotel.com, "Call Details" and
"StatusCallback" on developer.exotel.com.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from telephony.exotel.fields import field_text, json_object, json_objects
from telephony.webhook import CallProgress, EndReason

STATUSES: Mapping[str, tuple[CallProgress, EndReason | None]] = {
    "queued": ("ringing", None),
    "ringing": ("ringing", None),
    "in-progress": ("in_progress", None),
    "answered": ("in_progress", None),
    "completed": ("ended", "completed"),
    "busy": ("ended", "busy"),
    "no-answer": ("ended", "no_answer"),
    "canceled": ("ended", "canceled"),
    "cancelled": ("ended", "canceled"),
    "failed": ("ended", "failed"),
}
_CALL_TYPES: Mapping[str, EndReason] = {
    "completed": "completed",
    "client-hangup": "canceled",
    "incomplete": "no_answer",
}
"""`CallType` of a Passthru applet behind a Connect applet."""
_LEG_FIELD = re.compile(r"Legs\[(\d{1,2})\]\[(\w{1,40})\]")


def status_word(text: str) -> str:
    """A status as it is written in `STATUSES`."""
    return text.lower().replace("_", "-")


def of_passthru(fields: Mapping[str, Any]) -> EndReason | None:
    """How the call of a Connect applet ended, by the Passthru applet behind it; None: it is not reported.

    `DialCallStatus` is the status of the second party's leg, and `canceled` that the caller has left before
    somebody answered. `CallType` says less, but is sent where that is missing.
    """
    call_type = _CALL_TYPES.get(field_text(fields, "CallType").lower())
    legs = json_objects(fields.get("Legs")) or _numbered_legs(fields)
    outcome = _of_status(field_text(fields, "DialCallStatus")) or (_of_legs(legs) if legs else call_type)
    return "canceled" if call_type == "canceled" and outcome != "completed" else outcome


def of_details(details: Mapping[str, Any]) -> EndReason | None:
    """The same, by `Details` of Call Details; None: there was no second party, or it is not over."""
    legs = [json_object(leg.get("Leg")) or leg for leg in json_objects(details.get("Legs"))]
    if len(legs) < 2:
        return None
    return _of_status(field_text(details, "Leg2Status")) or _of_legs(legs)


def _of_status(text: str) -> EndReason | None:
    """A party that is still `in-progress` counts as gone, because the flow has continued."""
    progress, reason = STATUSES.get(status_word(text), ("ringing", None))
    return "completed" if progress == "in_progress" else reason


def _of_legs(legs: Sequence[Mapping[str, Any]]) -> EndReason:
    """By the last leg, which is the second party's."""
    if field_text(legs[-1], "OnCallDuration").strip("0."):
        return "completed"
    return _of_status(field_text(legs[-1], "Status")) or "no_answer"


def _numbered_legs(fields: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The legs of a query or form: `Legs[0][OnCallDuration]=…`."""
    legs: dict[int, dict[str, Any]] = {}
    for name, value in fields.items():
        if found := _LEG_FIELD.fullmatch(name):
            legs.setdefault(int(found[1]), {})[found[2]] = value
    return [legs[number] for number in sorted(legs)]
