"""A world for a scene."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from loguru import logger

from tests.calls.server import World, moved_in


@pytest.fixture(autouse=True)
def quiet_engine() -> Iterator[None]:
    """No word of pipecat's: it says thousands, and calls run at real pace."""
    logger.disable("pipecat")
    yield
    logger.enable("pipecat")


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """The server, the vendors, a carrier and an account, as they should be."""
    async with moved_in(database_url, tmp_path) as it:
        yield it
