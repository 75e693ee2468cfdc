"""When a server visits all objects to collect what ended calls have left."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

import pytest

from voicebot.config import Settings
from voicebot.server import ENDED_CALLS, ENDED_CALLS_WHEN_IDLE, CallServer


def test_ended_calls_are_collected_when_there_are_many_or_none_is_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each ended call counts once; while calls are live there must be more of them."""
    collections: list[int] = []
    calls = SimpleNamespace(ended_calls=0, live=1)
    app: Any = SimpleNamespace(state=SimpleNamespace(app_state=SimpleNamespace(call_registry=calls)))
    server = CallServer(app, Settings(_env_file=None))
    monkeypatch.setattr(gc, "collect", lambda: collections.append(calls.ended_calls))
    for live in (1, 0):
        for _ in range(2 * ENDED_CALLS):
            calls.ended_calls, calls.live = calls.ended_calls + 1, live
            server.collect_ended_calls()
    first = [ENDED_CALLS, 2 * ENDED_CALLS]
    assert collections[:2] == first
    assert collections[2:] == list(
        range(first[1] + ENDED_CALLS_WHEN_IDLE, calls.ended_calls + 1, ENDED_CALLS_WHEN_IDLE)
    )
