"""The handoff benches, in a small size."""

from collections import Counter
from uuid import UUID

import pytest

from bench import handoff_delivery, handoff_stream
from bench.handoff_claims import hang_ups, races


@pytest.mark.timeout(300)
async def test_one_of_many_claims_from_two_processes_wins(dsn: str) -> None:
    """Ten rounds of 100 claims at once have one winner each, whose id every loser gets."""
    assert (await races(dsn, rounds=10, claims=100))["rounds"] == 10


@pytest.mark.timeout(300)
async def test_a_claim_against_a_hang_up_has_one_end(dsn: str) -> None:
    """In any order, the handoff is abandoned once, or stays its holder's who resolves it."""
    assert (await hang_ups(dsn, interleavings=40))["interleavings"] == 40


MINE, THEIRS = UUID(int=1), UUID(int=2)


@pytest.mark.parametrize(
    ("received", "fault"),
    [
        ([1, 3], "missing"),
        ([1, 2], "missing"),
        ([1, 2, 2, 3], "doubled"),
        ([1, 3, 2], "out of order"),
    ],
)
def test_the_stream_bench_finds_what_is_wrong(received: list[int], fault: str) -> None:
    """A missing, repeated or misplaced event is reported; a correct sequence passes."""
    handoff_stream.judge([(seq, str(MINE)) for seq in (1, 2, 3)], MINE, 3)
    with pytest.raises(AssertionError, match=fault):
        handoff_stream.judge([(seq, str(MINE)) for seq in received], MINE, 3)


def test_the_stream_bench_finds_a_foreign_event() -> None:
    """It is reported even if its number is the expected one."""
    with pytest.raises(AssertionError, match="foreign"):
        handoff_stream.judge([(1, str(MINE)), (2, str(THEIRS))], MINE, 2)


def test_the_delivery_bench_finds_what_is_wrong() -> None:
    """A missing or unknown notice is reported; a repeated one is not."""
    handoff_delivery.judge(Counter(a=2, b=1), {"a", "b"})
    for came in (Counter(a=1), Counter(a=1, b=1, c=1)):
        with pytest.raises(AssertionError):
            handoff_delivery.judge(came, {"a", "b"})
