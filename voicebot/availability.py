"""The rules of presence and exhaustion: pure functions of facts and a moment, for people and providers alike.

Three kinds of facts are kept apart, so that news of one never undoes another: liveness (when it was last
heard from), activity (what it is set to do, what it holds) and quota (whether it is used up, until when).
What they add up to is computed, never stored. Every function returns new facts; who stores them compares
and sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

State = Literal["offline", "exhausted", "on_call", "busy", "away", "wrapping_up", "idle"]
"""What the facts add up to. The first in this order that applies is the state."""

Activity = Literal["idle", "away", "on_call", "wrapping_up"]
"""What somebody is set to do; `on_call` is a shift. Claims and bridged callers are counted, not set."""

Quota = Literal["free", "timed", "billing"]
"""Whether something is used up: `timed` ends at its time, `billing` only by a person."""

SILENCE = timedelta(seconds=120)
"""Silent for longer than this is offline."""

UNKNOWN_EXHAUSTION = timedelta(hours=5)
"""How long something counts as used up when nobody said until when."""

WRAP_UP = timedelta(seconds=60)
"""How long an operator is left alone after resolving a handoff, unless they say otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """All that is known of one operator or provider."""

    last_seen_at: datetime | None = None
    """None: never heard from, or signed off."""
    activity: Activity = "idle"
    activity_until: datetime | None = None
    """When `away`, a shift or wrapping up ends by itself; None: when somebody ends it."""
    quota: Quota = "free"
    quota_until: datetime | None = None
    """Set for `timed` alone."""
    holding: int = 0
    """Claims held."""
    bridged: int = 0
    """Those of the claims whose caller is on the line."""


class IllegalMove(Exception):
    """The state does not allow this; `allowed` lists what it does. A retry helps once it has changed."""

    def __init__(self, state: str, wanted: str, allowed: frozenset[str]) -> None:
        self.state = state
        self.wanted = wanted
        self.allowed = tuple(sorted(allowed))
        choices = ", ".join(self.allowed) or "nothing"
        super().__init__(f"Cannot become {wanted} while {state}; allowed: {choices}.")


BY_HAND: Mapping[State, frozenset[str]] = {
    "offline": frozenset({"idle", "away", "on_call", "exhausted", "offline"}),
    "exhausted": frozenset({"exhausted", "offline"}),
    "on_call": frozenset({"idle", "on_call", "wrapping_up", "exhausted", "offline"}),
    "busy": frozenset({"exhausted", "offline"}),
    "away": frozenset({"idle", "away", "on_call", "exhausted", "offline"}),
    "wrapping_up": frozenset({"idle", "away", "on_call", "wrapping_up", "exhausted", "offline"}),
    "idle": frozenset({"idle", "away", "on_call", "exhausted", "offline"}),
}
"""What one may be set to, by state. Who is `busy` or has a caller releases or resolves the claim first."""

CAN_CLAIM: frozenset[State] = frozenset({"idle", "busy", "on_call", "wrapping_up", "offline"})
"""Who may claim: asking for it is a sign of life, but neither ends a pause nor fills an empty quota."""


def is_offline(presence: Presence, now: datetime) -> bool:
    """Whether nothing was heard for more than `SILENCE`, or ever."""
    return presence.last_seen_at is None or now - presence.last_seen_at > SILENCE


def is_exhausted(presence: Presence, now: datetime) -> bool:
    """Whether it is used up: until its time, or for billing until a person says otherwise."""
    if presence.quota == "timed":
        return presence.quota_until is not None and now < presence.quota_until
    return presence.quota == "billing"


def activity(presence: Presence, now: datetime) -> Activity:
    """What is set, unless its time is over."""
    over = presence.activity_until is not None and now >= presence.activity_until
    return "idle" if over else presence.activity


def state(presence: Presence, now: datetime) -> State:
    """What the facts add up to."""
    if is_offline(presence, now):
        return "offline"
    if is_exhausted(presence, now):
        return "exhausted"
    doing = activity(presence, now)
    if presence.bridged or doing == "on_call":
        return "on_call"
    return "busy" if presence.holding else doing


def seen(presence: Presence, now: datetime) -> Presence:
    """Heard from. Revives, and touches nothing else; late news of an earlier moment changes nothing."""
    last = presence.last_seen_at
    return replace(presence, last_seen_at=now if last is None else max(last, now))


def signed_off(presence: Presence) -> Presence:
    """Gone, without waiting for the silence to tell. What it was used up by stays."""
    return replace(presence, last_seen_at=None, activity="idle", activity_until=None)


def exhausted(
    presence: Presence, now: datetime, *, until: datetime | None = None, billing: bool = False
) -> Presence:
    """Used up, `until` a time, or for `UNKNOWN_EXHAUSTION`. A later, shorter report never shortens."""
    if billing or presence.quota == "billing":
        return replace(presence, quota="billing", quota_until=None)
    end = until or now + UNKNOWN_EXHAUSTION
    if presence.quota_until is not None:
        end = max(end, presence.quota_until)
    return replace(presence, quota="timed", quota_until=end)


def relieved(presence: Presence) -> Presence:
    """A person says that it is not used up any more; the only end of one for billing."""
    return replace(presence, quota="free", quota_until=None)


def set_to(presence: Presence, wanted: Activity, now: datetime, until: datetime | None = None) -> Presence:
    """What somebody sets themselves to; asking for it is a sign of life.

    Raises:
        IllegalMove: not from this state, by `BY_HAND`.
    """
    present = state(presence, now)
    # Coming back may find a claim still held, or the quota empty: those states rule then.
    ruling = state(seen(presence, now), now) if present == "offline" else present
    held = presence.holding > 0 or presence.bridged > 0
    allowed = BY_HAND[ruling]
    if held:
        allowed -= {"idle", "away", "wrapping_up"}
    if wanted not in allowed:
        raise IllegalMove(ruling, wanted, allowed)
    return replace(seen(presence, now), activity=wanted, activity_until=until)


def wrapped_up(presence: Presence, now: datetime) -> Presence:
    """A claim was resolved: a moment for notes, unless there are more claims, a shift or a pause."""
    if presence.holding or activity(presence, now) != "idle":
        return presence
    return replace(presence, activity="wrapping_up", activity_until=now + WRAP_UP)


def check_claim(presence: Presence, now: datetime) -> None:
    """Whether one may claim.

    Raises:
        IllegalMove: away or exhausted.
    """
    present = state(seen(presence, now), now)
    if present not in CAN_CLAIM:
        raise IllegalMove(present, "busy", BY_HAND[present])
