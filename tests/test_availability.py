"""The rules of presence against a second, independent telling of them."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from db.operators import Activity, Presence
from voicebot import availability
from voicebot.availability import SETTABLE, IllegalMove

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECONDS = st.integers(0, 8 * 3600)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_silence_of_exactly_120_seconds_is_not_offline() -> None:
    """Only silence of more than 120 s is offline."""
    presence = availability.mark_seen(Presence(), START)

    assert availability.state(presence, after(120)) == "idle"
    assert availability.state(presence, after(120.001)) == "offline"


def test_who_was_never_heard_from_is_offline() -> None:
    """An operator is offline before their first sign of life."""
    assert availability.state(Presence(), START) == "offline"


def test_a_heartbeat_revives_but_erases_no_exhaustion() -> None:
    """Exhausted, silent for 121 s, timed out, heard from again: still exhausted."""
    presence = availability.exhaust(availability.mark_seen(Presence(), START), START)
    assert availability.state(presence, after(121)) == "offline"

    assert availability.state(availability.mark_seen(presence, after(121)), after(121)) == "exhausted"


def test_a_later_shorter_report_never_shortens_an_exhaustion() -> None:
    """The longest end that was ever reported counts."""
    long = availability.exhaust(Presence(), START, until=after(3600))

    assert availability.exhaust(long, after(10), until=after(60)).quota_until == after(3600)
    assert availability.exhaust(long, after(10)).quota_until == after(10 + 5 * 3600)


def test_an_exhaustion_without_a_known_end_lasts_5_hours() -> None:
    """It ends at that moment, not before."""
    presence = availability.exhaust(availability.mark_seen(Presence(), START), START)

    assert availability.is_exhausted(presence, after(5 * 3600 - 1))
    assert not availability.is_exhausted(presence, after(5 * 3600))


def test_an_exhaustion_for_billing_ends_by_a_person_only() -> None:
    """Neither time nor a later report with an end changes it."""
    presence = availability.exhaust(availability.mark_seen(Presence(), START), START, billing=True)
    presence = availability.exhaust(presence, START, until=after(60))

    assert availability.is_exhausted(presence, after(365 * 86400))
    assert not availability.is_exhausted(availability.clear_exhaustion(presence), START)


def test_an_illegal_move_names_the_state_and_the_allowed_ones() -> None:
    """An operator with a claim cannot wrap up; the error lists the allowed states."""
    busy = Presence(last_seen_at=START, holding=1)

    with pytest.raises(IllegalMove) as caught:
        availability.set_to(busy, "wrapping_up", START)

    assert (caught.value.state, caught.value.allowed) == ("busy", ("away", "exhausted", "offline"))
    assert "busy" in str(caught.value)


@pytest.mark.parametrize(("bridged", "before", "after"), [(0, "busy", "away"), (1, "on_call", "on_call")])
def test_away_is_possible_while_holding_a_claim(bridged: int, before: str, after: str) -> None:
    """The claim stays, no other can be made, and `idle` ends it."""
    holding = Presence(last_seen_at=START, holding=1, bridged=bridged)

    away = availability.set_to(holding, "away", START)

    assert availability.state(holding, START) == before
    assert (availability.state(away, START), away.holding) == (after, 1)
    with pytest.raises(IllegalMove):
        availability.check_claim(away, START)
    assert availability.state(availability.set_to(away, "idle", START), START) == before
    with pytest.raises(IllegalMove):
        availability.set_to(holding, "idle", START)


@pytest.mark.parametrize("state", get_args(availability.State))
def test_every_state_says_where_it_may_go(state: availability.State) -> None:
    """No state is without moves, and everybody may go offline."""
    assert "offline" in SETTABLE[state]
    assert SETTABLE[state] <= set(get_args(availability.State))


class PresenceMachine(RuleBasedStateMachine):
    """Anything may happen to an operator, in any order, at any time."""

    @initialize()
    def begin(self) -> None:
        self.presence = Presence()
        self.now = START
        self.heard: list[datetime] = []
        self.reports: list[datetime] = []
        self.billing = False

    @rule(seconds=st.one_of(st.sampled_from([1, 60, 119, 120, 121, 18_000]), SECONDS))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def heartbeat(self) -> None:
        self.presence = availability.mark_seen(self.presence, self.now)
        self.heard.append(self.now)

    @rule(ago=st.integers(0, 300))
    def late_heartbeat(self, ago: int) -> None:
        at = self.now - timedelta(seconds=ago)
        self.presence = availability.mark_seen(self.presence, at)
        self.heard.append(at)

    @rule()
    def sign_off(self) -> None:
        self.presence = availability.sign_off(self.presence)
        self.heard.clear()

    @rule(seconds=st.none() | SECONDS)
    def exhaust(self, seconds: int | None) -> None:
        until = None if seconds is None else self.now + timedelta(seconds=seconds)
        self.presence = availability.exhaust(self.presence, self.now, until=until)
        self.reports.append(until or self.now + timedelta(hours=5))

    @rule()
    def exhaust_for_billing(self) -> None:
        self.presence = availability.exhaust(self.presence, self.now, billing=True)
        self.billing = True

    @rule()
    def relieve(self) -> None:
        self.presence = availability.clear_exhaustion(self.presence)
        self.reports.clear()
        self.billing = False

    @rule(wanted=st.sampled_from(get_args(Activity)), seconds=st.none() | SECONDS)
    def set_to(self, wanted: Activity, seconds: int | None) -> None:
        before = self.presence
        until = None if seconds is None else self.now + timedelta(seconds=seconds)
        try:
            self.presence = availability.set_to(self.presence, wanted, self.now, until)
        except IllegalMove as refused:
            self.refused = refused
            assert self.presence == before
        else:
            assert not self.presence.holding or wanted in ("on_call", "away") or before.activity == "away"
            assert not self.used_up()
            self.heard.append(self.now)

    @invariant()
    def a_refusal_offers_something_else(self) -> None:
        if (refused := getattr(self, "refused", None)) is not None:
            assert refused.wanted not in refused.allowed

    @precondition(lambda self: self.presence.holding < 3)
    @rule()
    def claim(self) -> None:
        self.presence = Presence(**{**as_dict(self.presence), "holding": self.presence.holding + 1})

    @precondition(lambda self: self.presence.holding > 0)
    @rule()
    def resolve(self) -> None:
        fewer = Presence(**{**as_dict(self.presence), "holding": self.presence.holding - 1})
        self.presence = availability.wrap_up(fewer, self.now)

    def used_up(self) -> bool:
        # The other telling: the longest report of those since a person said that it is over.
        return self.billing or any(self.now < until for until in self.reports)

    @invariant()
    def state_is_what_happened(self) -> None:
        if not hasattr(self, "presence"):
            return
        state = availability.state(self.presence, self.now)
        silent = not self.heard or self.now - max(self.heard) > timedelta(seconds=120)
        assert (state == "offline") == silent
        if silent:
            return
        assert (state == "exhausted") == self.used_up()
        if state == "idle":
            assert not self.presence.holding


def as_dict(presence: Presence) -> dict[str, Any]:
    return {name: getattr(presence, name) for name in Presence.__slots__}


TestPresence = PresenceMachine.TestCase
TestPresence.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
