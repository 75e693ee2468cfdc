"""The benches of the desk in a size for every day."""

from collections import Counter
from uuid import UUID

import pytest

from bench import handoff_delivery, handoff_stream
from bench.handoff_claims import hang_ups, races


@pytest.mark.timeout(60)
async def test_one_of_many_claims_from_two_processes_wins(dsn: str) -> None:
    """Ten rounds of a hundred claims at once: one winner each, whom every loser is told of."""
    assert (await races(dsn, rounds=10, claims=100))["rounds"] == 10


@pytest.mark.timeout(60)
async def test_a_claim_against_a_hang_up_has_one_end(dsn: str) -> None:
    """Whichever comes first, the handoff is abandoned once and nobody holds it."""
    assert (await hang_ups(dsn, interleavings=40))["interleavings"] == 40


MINE, THEIRS = UUID(int=1), UUID(int=2)


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ([1, 3], "missing"),
        ([1, 2], "missing"),
        ([1, 2, 2, 3], "doubled"),
        ([1, 3, 2], "out of order"),
    ],
)
def test_the_stream_bench_finds_what_is_wrong(told: list[int], fault: str) -> None:
    """An event missing, at the end too, doubled or out of order is named; the right ones pass."""
    handoff_stream.judge([(seq, str(MINE)) for seq in (1, 2, 3)], MINE, 3)
    with pytest.raises(AssertionError, match=fault):
        handoff_stream.judge([(seq, str(MINE)) for seq in told], MINE, 3)


def test_the_stream_bench_finds_a_foreign_event() -> None:
    """Though its number be the one that was expected."""
    with pytest.raises(AssertionError, match="foreign"):
        handoff_stream.judge([(1, str(MINE)), (2, str(THEIRS))], MINE, 2)


def test_the_delivery_bench_finds_what_is_wrong() -> None:
    """A notice that did not arrive, or that nobody sent; twice is no fault."""
    handoff_delivery.judge(Counter(a=2, b=1), {"a", "b"})
    for came in (Counter(a=1), Counter(a=1, b=1, c=1)):
        with pytest.raises(AssertionError):
            handoff_delivery.judge(came, {"a", "b"})
