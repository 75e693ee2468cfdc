"""The benches of the desk in a size for every day."""

import pytest

from bench.desk_claims import hang_ups, races


@pytest.mark.timeout(60)
async def test_one_of_many_claims_from_two_processes_wins(dsn: str) -> None:
    """Ten rounds of a hundred claims at once: one winner each, whom every loser is told of."""
    assert (await races(dsn, rounds=10, claims=100))["rounds"] == 10


@pytest.mark.timeout(60)
async def test_a_claim_against_a_hang_up_has_one_end(dsn: str) -> None:
    """Whichever comes first, the handoff is abandoned once and nobody holds it."""
    assert (await hang_ups(dsn, interleavings=40))["interleavings"] == 40
