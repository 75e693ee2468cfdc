"""Output shared by the benches: percentiles, and one line of JSON with the result and the exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any


async def run_and_report(bench: Awaitable[Mapping[str, Any]]) -> None:
    """Run a bench and print its figures as one line of JSON.

    Raises:
        SystemExit: with status 1, when an assertion of the bench failed.
    """
    try:
        figures = await bench
    except AssertionError as failure:
        print(json.dumps({"result": "failed", "reason": str(failure) or "an assertion without a message"}))
        sys.exit(1)
    print(json.dumps({"result": "passed", **figures}))


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """Count, minimum, p50, p95, p99 and maximum of samples in ms, by nearest rank."""
    ranked = sorted(samples)

    def rank(percent: int) -> float:
        return round(ranked[max(0, -(-len(ranked) * percent // 100) - 1)], 1)

    return {
        "n": len(ranked), "min": round(ranked[0], 1),
        "p50": rank(50), "p95": rank(95), "p99": rank(99), "max": round(ranked[-1], 1),
    }  # fmt: skip
