"""How a bench ends: one line of JSON with a verdict, and exit status 1 when something did not hold."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Mapping
from typing import Any


async def judged(work: Awaitable[Mapping[str, Any]]) -> None:
    """Print what a bench found.

    Raises:
        SystemExit: with 1, when an assertion of the bench did not hold.
    """
    try:
        found = await work
    except AssertionError as failure:
        print(json.dumps({"verdict": "failed", "because": str(failure) or "an assertion without words"}))
        sys.exit(1)
    print(json.dumps({"verdict": "passed", **found}))
