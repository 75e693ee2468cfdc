"""Channels over HTTP: a test notice reaches the recipient, and the attempts to send it are listed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

from standardwebhooks.webhooks import Webhook

from db.pool import Database
from tests.api.server_fixture import Tenant, create, create_tenant, serving
from tests.handoffs.receivers import Answer, receiver
from voicebot.config import Settings


async def attempts(tenant: Tenant, notice: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The attempts to send a notice, once there are so many that have ended."""
    async with asyncio.timeout(30):
        while True:
            items = (await tenant.owner.get(f"/notices/{notice['id']}/attempts")).json()["items"]
            if len([each for each in items if each["outcome"] is not None]) >= count:
                return list(items)
            await asyncio.sleep(0.05)


async def test_a_test_notice_is_delivered(settings: Settings, dsn: str, tmp_path: Path) -> None:
    """It is signed with the channel's secret; one that the recipient refuses is listed with the status."""
    async with receiver() as hook, contextlib.AsyncExitStack() as stack:
        # In the worker's database another server may send a notice, and it may not reach the recipient.
        own = {"database_url": dsn, "data_dir": tmp_path}
        allowed = {"VOICEBOT_HTTP_ALLOW": f"127.0.0.1:{hook.port}"}
        database = await Database.connect(dsn)
        stack.push_async_callback(database.close)
        async with (
            serving(settings.replace(allowed).model_copy(update=own)) as server,
            create_tenant(server.url, database) as tenant,
        ):
            channel = await create(tenant.owner, "/channels", {"kind": "webhook", "url": hook.url})
            sent = await tenant.clients["admin"].post(f"/channels/{channel['id']}/test")
            assert sent.status_code == 202, sent.text
            (attempt,) = await attempts(tenant, sent.json(), 1)
            (posted,) = hook.posted
            Webhook(channel["signing_secret"]).verify(posted.body, posted.headers)
            message = json.loads(posted.body)
            assert (message["type"], message["data"]) == ("channel.test", {"channel_id": channel["id"]})
            assert attempt["outcome"] == "sent"

            hook.answer = lambda _: Answer(status=410)
            again = (await tenant.owner.post(f"/channels/{channel['id']}/test")).json()
            refused = (await attempts(tenant, again, 1))[0]
            assert (refused["outcome"], refused["status_code"]) == ("refused", 410)
