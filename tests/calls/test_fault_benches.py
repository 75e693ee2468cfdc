"""The benches of faults and of killed processes, in a small size."""

from __future__ import annotations

import pytest

from bench.faults import cells, run_cells
from bench.kill import measure
from tests.api.processes import fork

CELLS = (
    "stt before refused 401",
    "tts before hangs at connect",
    "tts answer drops once",
    "llm before refused 500",
)


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_no_word_is_lost_when_a_vendor_fails() -> None:
    """Each cell meets its fault, the agent says everything once, and no call ends without a goodbye."""
    for result in await run_cells([cell for cell in cells() if cell.name in CELLS]):
        assert not result.not_hit, result
        assert (result.words_lost, result.words_doubled) == (0, 0), result
        assert not result.ended_without_a_word, result


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("rolling", [False, True], ids=["killed", "restarted"])
async def test_no_call_is_lost_with_its_process(rolling: bool) -> None:
    """A process is killed, or both restart, while callers talk: every call continues at the other one."""
    figures = await measure(calls=2, rounds=1, seed=1, rolling=rolling, start=fork)
    assert figures["lost"] == []
