"""The rules of provider health: when a provider is used, probed, and left alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.provider_health import ProviderFault, ProviderHealth
from voicebot.availability import (
    LONGEST_OUTAGE,
    PROBE_TIMEOUT,
    begin_probe,
    is_provider_usable,
    provider_connected,
    provider_failed,
    provider_state,
    provider_worked,
)

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
FAULTS = st.sampled_from(["unauthorized", "billing", "rate_limited", "outage"])


def after(seconds: float) -> datetime:
    """A moment."""
    return START + timedelta(seconds=seconds)


def failed(*faults: ProviderFault) -> ProviderHealth:
    """The health after failures at the same moment."""
    health = ProviderHealth()
    for fault in faults:
        health = provider_failed(health, fault, START)
    return health


def test_one_failure_is_no_outage() -> None:
    """A single failure leaves the provider in use; the second in a row is an outage."""
    assert provider_state(failed("outage"), START) == "failing"
    assert is_provider_usable(failed("outage"), START)
    assert provider_state(failed("outage", "outage"), START) == "outage"
    worked = provider_worked(failed("outage"))
    assert provider_state(provider_failed(worked, "outage", START), START) == "failing"


@pytest.mark.parametrize("fault", ["unauthorized", "billing"])
def test_a_refused_key_keeps_the_provider_out_until_a_probe(fault: ProviderFault) -> None:
    """However much time passes, only a connection brings it back."""
    health = failed(fault)
    assert not is_provider_usable(health, after(24 * 3600))
    assert begin_probe(health, after(1)) is None
    probing = begin_probe(health, after(61))
    assert probing is not None
    assert is_provider_usable(provider_connected(probing), after(62))


def test_a_lesser_fault_does_not_replace_a_refused_key() -> None:
    """An outage of a provider that refused the key leaves it refused."""
    assert provider_state(failed("unauthorized", "outage", "rate_limited"), START) == "unauthorized"


def test_a_rate_limit_ends_at_its_retry_after() -> None:
    """Until then the provider is not used, then it is at once."""
    health = provider_failed(ProviderHealth(), "rate_limited", START, until=after(30))
    assert not is_provider_usable(health, after(29.9))
    assert is_provider_usable(health, after(30))


@given(st.lists(st.integers(1, 3600), min_size=1, max_size=5))
def test_a_rate_limit_keeps_the_latest_end_of_several_reports(seconds: list[int]) -> None:
    """In whichever order two calls report it."""
    health = ProviderHealth()
    for each in seconds:
        health = provider_failed(health, "rate_limited", START, until=after(each))
    assert health.until == after(max(seconds))


def test_one_probe_at_a_time() -> None:
    """There is one probe at a time, until its time limit has passed."""
    health = failed("outage", "outage")
    probing = begin_probe(health, after(10))
    assert probing is not None
    assert begin_probe(probing, after(11)) is None
    assert begin_probe(probing, after(11) + PROBE_TIMEOUT) is not None


def test_a_probe_that_fails_lengthens_the_outage() -> None:
    """The pause doubles up to a limit; a connection alone leaves the next failure an outage."""
    health, pauses = failed("outage"), []
    for _ in range(8):
        health = provider_failed(health, "outage", START)
        assert health.until is not None
        pauses.append((health.until - START).total_seconds())
    assert pauses == [5, 10, 20, 40, *[LONGEST_OUTAGE.total_seconds()] * 4]
    connected = provider_connected(health)
    assert provider_state(connected, START) == "failing"
    assert provider_state(provider_failed(connected, "outage", START), START) == "outage"


@given(st.lists(st.tuples(FAULTS, st.integers(0, 600)), max_size=12))
def test_health_is_always_consistent(reports: list[tuple[ProviderFault, int]]) -> None:
    """A fault has an end, and a provider that worked has neither, whatever was reported before."""
    health, now = ProviderHealth(), START
    for fault, seconds in reports:
        now += timedelta(seconds=seconds)
        health = provider_failed(health, fault, now)
        assert (health.fault is None) == (health.until is None)
        assert is_provider_usable(health, now) is (provider_state(health, now) in ("ok", "failing"))
    assert provider_state(provider_worked(health), now) == "ok"
