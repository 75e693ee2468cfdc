"""The benches of the desk in a size for every day."""

import pytest

from bench.desk_claims import hang_ups, races
from bench.desk_delivery import deliver


@pytest.mark.timeout(60)
async def test_one_of_many_claims_from_two_processes_wins(dsn: str) -> None:
    """Ten rounds of a hundred claims at once: one winner each, whom every loser is told of."""
    assert (await races(dsn, rounds=10, claims=100))["rounds"] == 10


@pytest.mark.timeout(60)
async def test_a_claim_against_a_hang_up_has_one_end(dsn: str) -> None:
    """Whichever comes first, the handoff is abandoned once and nobody holds it."""
    assert (await hang_ups(dsn, interleavings=40))["interleavings"] == 40


@pytest.mark.timeout(60)
async def test_every_notice_arrives_though_its_sender_is_killed(dsn: str) -> None:
    """Killed at random moments between commit and sent: all arrive, repetitions bear the same id."""
    found = await deliver(dsn, notices=60)
    assert found["kills"] >= 1
