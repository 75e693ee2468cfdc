"""Rules of availability of operators and providers: pure functions of facts and a moment.

An operator has three separate kinds of facts, so that a report of one never overwrites another: liveness (the
last sign of life), activity (the status that was set, and the claims) and quota (whether and until when it is
exhausted). The state is computed from the facts and never stored. Every function returns changed facts; the
caller stores them by compare-and-set, or under a lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from db.operators import Activity, Presence
from db.provider_health import ProviderFault, ProviderHealth

State = Literal["offline", "exhausted", "on_call", "busy", "away", "wrapping_up", "idle"]
"""The computed state: the first in this order that applies."""

PresenceT = TypeVar("PresenceT", bound=Presence)

OFFLINE_AFTER = timedelta(seconds=120)
"""An operator who was silent for longer is offline."""

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


# ------------------------------------------------------------------------------------ providers

ProviderState = Literal["ok", "failing", "unauthorized", "billing", "rate_limited", "outage"]
"""``failing``: it failed since it last worked, but too few times for an outage."""

OUTAGE_AFTER = 2
"""This many failures in a row are an outage."""

FIRST_OUTAGE = timedelta(seconds=5)
LONGEST_OUTAGE = timedelta(seconds=60)
"""Bounds of the time before a provider in an outage is probed; it doubles with each failure."""

REFUSAL = timedelta(seconds=60)
"""Time before a provider that refused the key or reported no credit is probed."""

DEFAULT_RETRY_AFTER = timedelta(seconds=10)
"""Duration of a rate limit that was reported without an end."""

PROBE_TIMEOUT = timedelta(seconds=15)
"""A probe without a result after this time does not prevent others."""


def provider_state(health: ProviderHealth, now: datetime) -> ProviderState:
    """Compute the state from the facts."""
    if health.fault is None or (health.fault == "rate_limited" and _is_over(health, now)):
        return "failing" if health.failures else "ok"
    return health.fault


def is_provider_usable(health: ProviderHealth, now: datetime) -> bool:
    """Whether a call may use the provider; otherwise a backup is used if there is one."""
    return provider_state(health, now) in ("ok", "failing")


def provider_failed(
    health: ProviderHealth,
    fault: ProviderFault,
    now: datetime,
    *,
    reason: str = "",
    until: datetime | None = None,
) -> ProviderHealth:
    """Record a failure.

    A rate limit ends at the latest time of several reports. A refused key and an unpaid account are not
    replaced by a lesser fault.

    Args:
        health: the facts so far.
        fault: what was reported; an ``outage`` counts as one after ``OUTAGE_AFTER`` failures in a row.
        now: the time of the failure.
        reason: the text to show, without secrets.
        until: when a rate limit ends, as the provider said.
    """
    failures = health.failures + 1
    noted = replace(health, failures=failures, reason=reason, failed_at=now, probe_until=None)
    refused = health.fault in ("unauthorized", "billing")
    if fault in ("unauthorized", "billing"):
        return replace(noted, fault=fault, until=now + REFUSAL)
    if refused:
        return replace(noted, until=now + REFUSAL)
    if fault == "rate_limited":
        ends = [until or now + DEFAULT_RETRY_AFTER]
        if health.fault == "rate_limited" and health.until is not None:
            ends.append(health.until)
        return replace(noted, fault="rate_limited", until=max(ends))
    if health.fault == "rate_limited" and not _is_over(health, now):
        return noted
    if failures < OUTAGE_AFTER:
        return replace(noted, fault=None, until=None)
    pause = min(FIRST_OUTAGE * 2 ** min(failures - OUTAGE_AFTER, 10), LONGEST_OUTAGE)
    return replace(noted, fault="outage", until=now + pause)


def provider_connected(health: ProviderHealth) -> ProviderHealth:
    """The provider accepted a connection: it is used again; the next failure is an outage again."""
    return replace(
        health, fault=None, until=None, probe_until=None, failures=min(health.failures, OUTAGE_AFTER - 1)
    )


def provider_worked(health: ProviderHealth) -> ProviderHealth:
    """The provider fulfilled a request: it has no fault."""
    return replace(health, fault=None, until=None, probe_until=None, failures=0)


def begin_probe(health: ProviderHealth, now: datetime) -> ProviderHealth | None:
    """The facts for a probe of a provider; None: no probe is due, or one is in progress."""
    if is_provider_usable(health, now) or not _is_over(health, now):
        return None
    if health.probe_until is not None and now < health.probe_until:
        return None
    return replace(health, probe_until=now + PROBE_TIMEOUT)


def _is_over(health: ProviderHealth, now: datetime) -> bool:
    return health.until is not None and now >= health.until
