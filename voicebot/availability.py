"""Rules of presence and exhaustion: pure functions of facts and a moment, for operators and providers alike.

Three kinds of facts are separate, so that a report of one never overwrites another: liveness (when it was
last heard from), activity (what it is set to do, what it holds) and quota (whether and until when it is
exhausted). The state is computed from them and never stored. Every function returns changed facts; the
caller stores them by compare-and-set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from db.operators import Activity, Presence

State = Literal["offline", "exhausted", "on_call", "busy", "away", "wrapping_up", "idle"]
"""The computed state: the first in this order that applies."""

PresenceT = TypeVar("PresenceT", bound=Presence)

OFFLINE_AFTER = timedelta(seconds=120)
"""An operator or provider that was silent for longer is offline."""

DEFAULT_EXHAUSTION = timedelta(hours=5)
"""Duration of an exhaustion that was reported without an end."""

WRAP_UP = timedelta(seconds=60)
"""Duration of `wrapping_up` after an operator resolved a handoff."""


class IllegalMove(Exception):
    """The state does not allow this change; ``allowed`` lists the changes that it allows."""

    def __init__(self, state: str, wanted: str, allowed: frozenset[str]) -> None:
        self.state = state
        self.wanted = wanted
        self.allowed = tuple(sorted(allowed))
        choices = ", ".join(self.allowed) or "nothing"
        super().__init__(f"The state {state} does not allow {wanted}. Allowed: {choices}.")


SETTABLE: Mapping[State, frozenset[str]] = {
    "offline": frozenset({"idle", "away", "on_call", "exhausted", "offline"}),
    "exhausted": frozenset({"exhausted", "offline"}),
    "on_call": frozenset({"idle", "away", "on_call", "wrapping_up", "exhausted", "offline"}),
    "busy": frozenset({"away", "exhausted", "offline"}),
    "away": frozenset({"idle", "away", "on_call", "exhausted", "offline"}),
    "wrapping_up": frozenset({"idle", "away", "on_call", "wrapping_up", "exhausted", "offline"}),
    "idle": frozenset({"idle", "away", "on_call", "exhausted", "offline"}),
}
"""What may be set, by state. With a claim, `away` means no new offers or claims, and `idle` ends it."""

CAN_CLAIM: frozenset[State] = frozenset({"idle", "busy", "on_call", "wrapping_up", "offline"})
"""States that may claim. A claim counts as a sign of life; it ends neither `away` nor an exhaustion."""


def is_offline(presence: Presence, now: datetime) -> bool:
    """Whether the last sign of life is older than ``OFFLINE_AFTER``, or there was none."""
    return presence.last_seen_at is None or now - presence.last_seen_at > OFFLINE_AFTER


def is_exhausted(presence: Presence, now: datetime) -> bool:
    """Whether the quota is exhausted at this moment."""
    if presence.quota == "timed":
        return presence.quota_until is not None and now < presence.quota_until
    return presence.quota == "billing"


def activity(presence: Presence, now: datetime) -> Activity:
    """The activity that is set, or ``idle`` once its end has passed."""
    ended = presence.activity_until is not None and now >= presence.activity_until
    return "idle" if ended else presence.activity


def state(presence: Presence, now: datetime) -> State:
    """Compute the state from the facts."""
    if is_offline(presence, now):
        return "offline"
    if is_exhausted(presence, now):
        return "exhausted"
    current = activity(presence, now)
    if presence.bridged or current == "on_call":
        return "on_call"
    return "busy" if presence.holding and current != "away" else current


def mark_seen(presence: PresenceT, now: datetime) -> PresenceT:
    """Record a sign of life at ``now``; it changes nothing else, and an older one changes nothing at all."""
    last = presence.last_seen_at
    return replace(presence, last_seen_at=now if last is None else max(last, now))


def sign_off(presence: PresenceT) -> PresenceT:
    """Go offline at once; an exhaustion stays."""
    return replace(presence, last_seen_at=None, activity="idle", activity_until=None)


def exhaust(
    presence: PresenceT, now: datetime, *, until: datetime | None = None, billing: bool = False
) -> PresenceT:
    """Record an exhaustion until a time or for ``DEFAULT_EXHAUSTION``; the latest reported end counts."""
    if billing or presence.quota == "billing":
        return replace(presence, quota="billing", quota_until=None)
    end = until or now + DEFAULT_EXHAUSTION
    if presence.quota_until is not None:
        end = max(end, presence.quota_until)
    return replace(presence, quota="timed", quota_until=end)


def clear_exhaustion(presence: PresenceT) -> PresenceT:
    """End an exhaustion; nothing else ends one for billing."""
    return replace(presence, quota="free", quota_until=None)


def set_to(presence: PresenceT, wanted: Activity, now: datetime, until: datetime | None = None) -> PresenceT:
    """Set the activity; doing so counts as a sign of life.

    Raises:
        IllegalMove: ``SETTABLE`` does not allow it in the present state.
    """
    present = state(presence, now)
    # An operator who returns may still hold a claim or be exhausted; that state decides then.
    effective = state(mark_seen(presence, now), now) if present == "offline" else present
    held = presence.holding > 0 or presence.bridged > 0
    allowed = SETTABLE[effective]
    if held:
        allowed -= {"wrapping_up"} if activity(presence, now) == "away" else {"idle", "wrapping_up"}
    if wanted not in allowed:
        raise IllegalMove(effective, wanted, allowed)
    return replace(mark_seen(presence, now), activity=wanted, activity_until=until)


def wrap_up(presence: PresenceT, now: datetime) -> PresenceT:
    """Start wrapping up after a resolved claim, unless there are more claims or another activity is set."""
    if presence.holding or activity(presence, now) != "idle":
        return presence
    return replace(presence, activity="wrapping_up", activity_until=now + WRAP_UP)


def check_claim(presence: Presence, now: datetime) -> None:
    """Check that the state allows a claim.

    Raises:
        IllegalMove: the state is away or exhausted.
    """
    present = state(mark_seen(presence, now), now)
    if activity(presence, now) == "away" and present != "exhausted":
        present = "away"
    if present not in CAN_CLAIM:
        raise IllegalMove(present, "busy", SETTABLE[present])
