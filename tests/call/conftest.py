"""Fixtures of the tests of calls in virtual time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from loguru import logger

from tests.call.virtual_time import VirtualLoop, virtual_time


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    """An event loop in virtual time, without the log of pipecat."""
    logger.disable("pipecat")
    with virtual_time() as running:
        yield running
    logger.enable("pipecat")
