"""Harnesses for whole calls, shared by the tests of a worker; each test has an account of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from loguru import logger

from tests.calls.harness import CallHarness, new_account, started


@pytest.fixture(autouse=True)
def quiet_pipecat() -> Iterator[None]:
    """Turn pipecat's log off: it has thousands of lines, and calls run in real time."""
    logger.disable("pipecat")
    yield
    logger.enable("pipecat")


@pytest.fixture(scope="session")
async def shared_harness(
    shared_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CallHarness]:
    """The worker's harness with scripted speech."""
    async with started(shared_dsn, tmp_path_factory.mktemp("calls")) as it:
        yield it


@pytest.fixture(scope="session")
async def shared_spoken_harness(
    shared_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CallHarness]:
    """The worker's harness with real speech."""
    async with started(shared_dsn, tmp_path_factory.mktemp("spoken-calls"), spoken=True) as it:
        yield it


@pytest.fixture
async def harness(shared_harness: CallHarness) -> AsyncIterator[CallHarness]:
    """Calls with scripted speech."""
    async with new_account(shared_harness) as it:
        yield it


@pytest.fixture
async def spoken_harness(shared_spoken_harness: CallHarness) -> AsyncIterator[CallHarness]:
    """Calls with speech that is synthesised and recognised."""
    async with new_account(shared_spoken_harness) as it:
        yield it


@pytest.fixture(params=["scripted", pytest.param("spoken", marks=pytest.mark.long)])
def any_harness(request: pytest.FixtureRequest) -> CallHarness:
    """Calls with scripted speech, and in the long tests with real speech too."""
    name = "harness" if request.param == "scripted" else "spoken_harness"
    it: CallHarness = request.getfixturevalue(name)
    return it


@pytest.fixture(params=["twilio", "exotel"])
def line(harness: CallHarness, request: pytest.FixtureRequest) -> CallHarness:
    """Calls of each carrier."""
    name: str = request.param
    return harness.on(name)
