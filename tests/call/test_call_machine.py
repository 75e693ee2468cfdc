"""Random calls: whatever happens in whatever order, what must hold of a call holds.

The examples are the same in every run; ``bench/fuzz_routes.py`` looks for others.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.call.call_machine import CallMachine

EXAMPLES, PARTS = 200, 8
"""All calls of the long tests, and in how many tests they are played."""


def play(examples: int, number: int) -> None:
    """Play so many calls; ``number`` chooses which."""
    machine = seed(number)(type(f"CallMachine{number}", (CallMachine,), {}))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=10,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_calls_in_which_anything_happens() -> None:
    """One agent is in charge, no silence of ours is too long, and memory, transcript and audio agree."""
    play(5, 0)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(1, PARTS + 1))
def test_many_calls_in_which_anything_happens(part: int) -> None:
    """The same holds for 200 calls; the bench plays as many as one likes."""
    play(EXAMPLES // PARTS, part)
