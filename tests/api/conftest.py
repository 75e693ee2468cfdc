"""A real server on a real port with a real database, and people with keys of every role."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from db.pool import Database
from tests.api.server_fixture import AUTH_TOKEN, PUBLIC_URL, House, Tenant, move_in, serving
from voicebot.config import Settings

NewTenant = Callable[[], Awaitable[Tenant]]


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings of a server with one carrier and no vendor."""
    return Settings(
        _env_file=None,
        database_url=database_url,
        data_dir=tmp_path,
        port=0,
        public_url=PUBLIC_URL,
        twilio_account_sid="AC00000000000000000000000000000001",
        twilio_auth_token=AUTH_TOKEN,
        # Nobody listens there: a test reaches no vendor.
        twilio_api_url="http://127.0.0.1:9",
        elevenlabs_url="http://127.0.0.1:9",
        openai_base_url="http://127.0.0.1:9",
        drain_timeout_ms=500,
    )


@pytest.fixture
async def house(settings: Settings) -> AsyncIterator[House]:
    """A running server."""
    async with serving(settings) as running:
        yield running


@pytest.fixture
async def new_tenant(house: House, database: Database) -> AsyncIterator[NewTenant]:
    """Makes an account with a key of every role."""
    async with contextlib.AsyncExitStack() as stack:

        async def make() -> Tenant:
            return await stack.enter_async_context(move_in(house.url, database))

        yield make


@pytest.fixture
async def tenant(new_tenant: NewTenant) -> Tenant:
    """One account with a key of every role."""
    return await new_tenant()
