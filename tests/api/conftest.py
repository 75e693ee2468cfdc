"""A server on a port of its own, shared by the tests of a worker, and an account for each test."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from db.pool import Database
from tests.api.server_fixture import AUTH_TOKEN, PUBLIC_URL, RunningServer, Tenant, create_tenant, serving
from tests.api.twilio import StandIn, Twilio, called
from voicebot.config import Settings

NewTenant = Callable[[], Awaitable[Tenant]]


@pytest.fixture
def data_directory() -> Iterator[Path]:
    """A data directory that PostgreSQL's user can reach, whatever other test sessions do to theirs."""
    with tempfile.TemporaryDirectory(prefix="data-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory, "data")


@pytest.fixture
def database_url(shared_dsn: str) -> str:
    """DSN of the worker's database."""
    return shared_dsn


@pytest.fixture
def database(shared_database: Database) -> Database:
    """The worker's database: each test uses accounts of its own."""
    return shared_database


@pytest.fixture(scope="session")
def shared_settings(shared_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a server with one carrier and no vendor."""
    return Settings(
        _env_file=None,
        VOICEBOT_DISPATCH="off",
        database_url=shared_dsn,
        data_dir=tmp_path_factory.mktemp("server"),
        port=0,
        public_url=PUBLIC_URL,
        twilio_account_sid="AC00000000000000000000000000000001",
        twilio_auth_token=AUTH_TOKEN,
        # Nothing listens on this port, so that no test reaches a vendor.
        twilio_api_url="http://127.0.0.1:9",
        DEEPGRAM_URL="http://127.0.0.1:9",
        ELEVENLABS_URL="http://127.0.0.1:9",
        OPENAI_BASE_URL="http://127.0.0.1:9",
        drain_timeout_ms=500,
        # A slow machine must not refuse the calls of a test.
        max_lag_ms=0,
    )


@pytest.fixture
def settings(shared_settings: Settings, tmp_path: Path) -> Settings:
    """Settings of a server that a test starts for itself."""
    return shared_settings.model_copy(update={"data_dir": tmp_path})


@pytest.fixture(scope="session")
async def shared_server(shared_settings: Settings) -> AsyncIterator[RunningServer]:
    """The worker's server."""
    async with serving(shared_settings) as running:
        yield running


@pytest.fixture
def server(shared_server: RunningServer) -> RunningServer:
    """The worker's server: a test that changes its state starts one of its own."""
    return shared_server


@pytest.fixture
async def new_tenant(server: RunningServer, database: Database) -> AsyncIterator[NewTenant]:
    """Makes an account with a key of every role."""
    async with contextlib.AsyncExitStack() as stack:

        async def make() -> Tenant:
            return await stack.enter_async_context(create_tenant(server.url, database))

        yield make


@pytest.fixture
async def tenant(new_tenant: NewTenant) -> Tenant:
    """One account with a key of every role."""
    return await new_tenant()


@pytest.fixture
async def call_registry(server: RunningServer) -> AsyncIterator[StandIn]:
    """A stand-in for the call registry; the server waits at its end for calls that it holds."""
    server.app_state.call_registry = stand_in = StandIn()
    yield stand_in
    await stand_in.close(0)


@pytest.fixture
async def twilio(
    server: RunningServer,
    tenant: Tenant,
    call_registry: StandIn,  # noqa: ARG001 -- in place before the call
) -> Twilio:
    """A call to a number that an orchestrator answers, with a stand-in for the call registry."""
    return await called(server, tenant)
