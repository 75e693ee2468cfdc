"""Accounts to synchronise with: in the database, and behind a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from db.pool import Database
from tests.api.conftest import database, database_url, new_tenant, shared_server, shared_settings, tenant
from tests.api.conftest import server as server
from tests.api.server_fixture import RunningServer, Tenant
from voicebot.sync.account import Account
from voicebot.sync.api_account import ApiAccount
from voicebot.sync.database_account import DatabaseAccount

__all__ = ["database", "database_url", "new_tenant", "server", "shared_server", "shared_settings", "tenant"]


@pytest.fixture(params=["database", "server"])
async def account(
    request: pytest.FixtureRequest, server: RunningServer, tenant: Tenant, database: Database
) -> AsyncIterator[Account]:
    """The tenant's account, in both implementations."""
    if request.param == "database":
        yield DatabaseAccount(database, server.app_state.authoring, tenant.account_id)
        return
    by_http = ApiAccount(server.url, tenant.keys["author"])
    yield by_http
    await by_http.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory that does not exist yet."""
    return tmp_path / "templates"


def agent(name: str = "Billing", **more: Any) -> dict[str, Any]:
    """An agent in the format of files."""
    return {
        "name": name,
        "description": f"Knows about {name}.",
        "status": "active",
        "prompt": f"You are Ada.\nYou know about {name}.\n",
        "tts": {"voice_id": "EXAVITQu4vr4xnSDxMaL"},
        **more,
    }


def desk(*targets: str, **more: Any) -> dict[str, Any]:
    """An orchestrator in the format of files."""
    return {
        "name": "Front desk",
        "kind": "orchestrator",
        "status": "active",
        "prompt": "You answer the telephone.",
        "tts": {"voice_id": "EXAVITQu4vr4xnSDxMaL"},
        "routes": [
            {"name": f"route{index}", "template": target, "when": f"The caller asks for {target}."}
            for index, target in enumerate(targets)
        ],
        **more,
    }
