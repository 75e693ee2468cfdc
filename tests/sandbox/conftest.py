"""The vendors' servers for a test, each on a port of its own."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import settings

from voicebot.sandbox.vendors.latency import Latency
from voicebot.sandbox.world import Sandbox

# Speech and recognition take what they take, and more on a machine that runs other tests as well.
settings.register_profile("sandbox", deadline=None)
settings.load_profile("sandbox")

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
