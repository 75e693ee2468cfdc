"""The vendors' servers for a test, each on a port of its own."""

from collections.abc import AsyncIterator

import pytest

from voicebot.sandbox.environment import Sandbox
from voicebot.sandbox.vendors.latency import Latency


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark all tests of the stand-ins as long."""
    item.add_marker(pytest.mark.long)


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave them out of `make test`, in which each worker would import them for nothing."""
    return config.getoption("markexpr") == "not long" or None


PHRASES = (
    "I have a question about my bill.",
    "Take me back, please.",
    "My order number is four two seven one.",
    "Yes, that is right.",
)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(
        phrases=PHRASES, latency=Latency(first_token_ms=5, token_ms=0, first_audio_ms=5)
    ) as it:
        yield it
