"""Plays random calls in virtual time and checks after every step what must hold of a call.

    python -m bench.fuzz_routes --examples 100000 --seed 7

What callers, models, functions and voices do comes in any order (``tests/call/call_machine.py``). Prints one
JSON object: how many calls were played, how many different interleavings of steps there were, and the first
failure, shrunk to the shortest call that shows it. A failure becomes a named test in ``tests/call``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from loguru import logger

from tests.call.call_machine import CallMachine


def main() -> int:
    """Play; return 1 if a call broke a rule."""
    parser = argparse.ArgumentParser(description="Plays random calls in virtual time.")
    parser.add_argument("--examples", type=int, default=1000, help="how many calls (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=12, help="most steps of a call (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="which calls (default: %(default)s)")
    options = parser.parse_args()
    logger.remove()
    failure, began = None, time.perf_counter()
    try:
        run_state_machine_as_test(
            seed(options.seed)(CallMachine),
            settings=settings(
                max_examples=options.examples,
                stateful_step_count=options.steps,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    except AssertionError as error:
        failure = "\n".join([str(error), *getattr(error, "__notes__", ())])
    print(
        json.dumps(
            {
                "calls": sum(CallMachine.traces.values()),
                "interleavings": len(CallMachine.traces),
                "seconds": round(time.perf_counter() - began, 1),
                "failure": failure,
            },
            indent=2,
        )
    )
    return 0 if failure is None else 1


if __name__ == "__main__":
    sys.exit(main())
