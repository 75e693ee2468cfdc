from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from db.pool import Database
from tests.api.processes import VOICEBOT, said, server, start
from tests.api.server_fixture import PUBLIC_URL, client, create_tenant, http_client

pytestmark = pytest.mark.long

NO_VENDOR = {
    "PUBLIC_URL": PUBLIC_URL,
    "TWILIO_ACCOUNT_SID": "AC00000000000000000000000000000001",
    "TWILIO_AUTH_TOKEN": "deep secret",
}


async def test_a_first_run_needs_nothing(data_directory: Path, tmp_path: Path) -> None:
    """In an empty directory without settings serve gets ready, and knows an account made while it runs."""
    environment = {"VOICEBOT_DATA_DIR": str(data_directory)}
    async with server((*VOICEBOT, "serve"), environment, tmp_path, start) as (url, process):
        made = await said(
            (*VOICEBOT, "accounts", "create", "--name", "Acme", "--json"), environment, tmp_path
        )
        create = ("keys", "create", "--account", made["account_id"], "--role", "author", "--json")
        key = await said((*VOICEBOT, *create), environment, tmp_path)
        assert set(key) == {"key_id", "key"}
        async with client(url, key["key"]) as author:
            assert (await author.get("/templates")).json() == {"items": [], "next_cursor": None}
        async with http_client(base_url=url) as anybody:
            assert (await anybody.get("/healthz")).json() == {"status": "ok"}
            assert (await anybody.get("/readyz")).json()["ready"] is True
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_the_servers_log_has_no_secret(database: Database, tmp_path: Path) -> None:
    """Logs are JSON lines on stderr; no failure puts keys, tokens or passwords in them."""
    environment = {"DATABASE_URL": database.dsn, "VOICEBOT_DATA_DIR": str(tmp_path), "LOG_LEVEL": "DEBUG"}
    process = await start((*VOICEBOT, "serve"), {**environment, **NO_VENDOR, "VOICEBOT_PORT": "0"}, tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    url = json.loads(await process.stdout.readline())["url"]
    async with create_tenant(url, database) as tenant:
        await tenant.orchestrator(greeting={"text": "Hello."})
        secret = {
            "type": "http",
            "name": "find",
            "description": "x",
            "url": "https://a.example.com/",
            "secret_headers": {"X-Key": "deep secret"},
        }
        await tenant.agent("With secrets", functions=[secret])
        await tenant.owner.post("/templates", json={"functions": [secret, 1]})
        async with http_client() as stranger:
            await stranger.post(f"{url}/webhooks/twilio/voice", data={"To": "x"})
        process.send_signal(signal.SIGTERM)
        out, errors = await process.communicate()
        assert out == b""
        lines = [line for line in errors.decode().splitlines() if "Pipecat" not in line]
        assert all(json.loads(line)["level"] for line in lines)
        for hidden in ("deep secret", tenant.keys["owner"]):
            assert hidden not in errors.decode()


async def test_a_taken_port_is_said_plainly(database: Database, tmp_path: Path) -> None:
    """A second server on the same port does not start, and says why."""
    environment = {"DATABASE_URL": database.dsn, "VOICEBOT_DATA_DIR": str(tmp_path)}
    async with server((*VOICEBOT, "serve"), environment, tmp_path) as (url, _):
        port = url.rpartition(":")[2]
        process = await start((*VOICEBOT, "serve"), {**environment, "VOICEBOT_PORT": port}, tmp_path)
        out, errors = await process.communicate()
        assert process.returncode != 0
        assert out == b""
        assert b"address already in use" in errors


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        (("serve",), {"VOICEBOT_PORT": "many"}, "VOICEBOT_PORT"),
        (("migrate",), {"DATABASE_URL": "postgresql://127.0.0.1:9/x"}, "cannot be reached"),
        (
            ("keys", "create", "--account", "01a1fb64-16ef-7341-baef-1bff17f7b0e5", "--role", "owner"),
            {},
            "There is no account",
        ),
        (("keys", "create", "--account", "one", "--role", "king"), {}, "Invalid value"),
    ],
)
async def test_a_command_that_cannot_be_done_says_why(
    database: Database, tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], expected: str
) -> None:
    """Wrong settings, a database that is away, an account that is not there: one line, no traceback."""
    base = {"DATABASE_URL": database.dsn, "VOICEBOT_DATA_DIR": str(tmp_path)}
    process = await start((*VOICEBOT, *arguments), {**base, **environment}, tmp_path)
    _, errors = await process.communicate()
    assert process.returncode not in (0, None)
    assert expected in errors.decode()
    assert "Traceback" not in errors.decode()


async def test_migrate_brings_the_schema_up_to_date(database: Database, tmp_path: Path) -> None:
    """`voicebot migrate` on a current schema changes nothing and says so."""
    environment = {"DATABASE_URL": database.dsn, "VOICEBOT_DATA_DIR": str(tmp_path)}
    process = await start((*VOICEBOT, "migrate"), environment, tmp_path)
    out, _ = await process.communicate()
    assert (process.returncode, b"up to date" in out) == (0, True)


async def test_a_media_socket_bears_big_and_odd_messages(database: Database, tmp_path: Path) -> None:
    """A message over 64 KiB closes the socket with 1009, a socket that says nothing with 1008 after 5 s."""
    environment = {"DATABASE_URL": database.dsn, "VOICEBOT_DATA_DIR": str(tmp_path), **NO_VENDOR}
    async with server((*VOICEBOT, "serve"), environment, tmp_path) as (url, _):
        media = url.replace("http", "ws", 1) + "/media/twilio"
        async with connect(media) as huge, connect(media) as larger, connect(media) as silent:
            await huge.send("x" * 70_000)
            await larger.send("x" * 900_000)
            async with asyncio.timeout(30):
                for socket in (huge, larger, silent):
                    await socket.wait_closed()
            assert (huge.close_code, larger.close_code, silent.close_code) == (1009, 1009, 1008)
