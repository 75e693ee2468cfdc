"""Calls that arrive while the database is down wait at the carrier, and then go to the number's fallback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.api.database_proxy import DatabaseProxy
from tests.api.server_fixture import PUBLIC_URL, RunningServer, Tenant, serving
from tests.api.twilio import Reply, Twilio
from voicebot.call.failure_texts import failure_texts
from voicebot.config import Settings

WEBHOOKS_URL = f"{PUBLIC_URL}/webhooks/twilio/"


@pytest.fixture
def proxy(shared_dsn: str) -> DatabaseProxy:
    """The server's way to the database."""
    return DatabaseProxy(shared_dsn)


@pytest.fixture
async def server(settings: Settings, proxy: DatabaseProxy) -> AsyncIterator[RunningServer]:
    """A server whose database can be frozen or cut."""
    async with (
        proxy.running() as dsn,
        serving(settings.model_copy(update={"database_url": dsn})) as running,
    ):
        yield running


async def called(server: RunningServer, tenant: Tenant, **number: Any) -> Twilio:
    """Return a call to a number with these members, which the server has in its copy."""
    orchestrator = await tenant.orchestrator(language="de-DE")
    path = f"/numbers/{orchestrator['number_id']}"
    answer = await tenant.owner.patch(path, json=number, headers={"If-Match": "*"})
    assert answer.status_code == 200, answer.text
    await server.app_state.number_directory.refresh()
    return Twilio(server, answer.json()["e164"])


def redirect(reply: Reply) -> str:
    """Return what Twilio is told to request after its pause: the webhook and its query."""
    assert reply.verbs == ["Pause", "Redirect"]
    url = reply.twiml.findtext("./Redirect") or ""
    assert url.startswith(WEBHOOKS_URL)
    return url.removeprefix(WEBHOOKS_URL)


@pytest.mark.parametrize("trouble", ["freeze", "cut"])
@pytest.mark.parametrize("webhook", ["voice", "resume"])
async def test_row_13_a_call_waits_while_the_database_is_down(
    server: RunningServer, tenant: Tenant, proxy: DatabaseProxy, webhook: str, trouble: str
) -> None:
    """Within 2 s the carrier is told to pause and to ask again; the call is connected when it is back."""
    twilio = await called(server, tenant)
    if webhook == "resume":
        await twilio.post("voice")
    getattr(proxy, trouble)()
    async with asyncio.timeout(2):
        again = redirect(await twilio.post(webhook))
    assert again.startswith(f"{webhook}?waiting_since=")
    async with asyncio.timeout(2):
        assert redirect(await twilio.post(again)) == again
    proxy.restore()
    async with asyncio.timeout(60):
        while (reply := await twilio.post(again)).verbs == ["Pause", "Redirect"]:
            await asyncio.sleep(0.1)
    assert reply.verbs == ["Connect", "Redirect"]


async def test_row_13_a_number_is_in_the_copy_soon_after_it_was_changed(
    server: RunningServer, tenant: Tenant
) -> None:
    """A fallback applies to a database that stops soon afterwards."""
    orchestrator = await tenant.orchestrator()
    path, fallback = f"/numbers/{orchestrator['number_id']}", "+14155559999"
    answer = await tenant.owner.patch(path, json={"fallback_number": fallback}, headers={"If-Match": "*"})
    known = server.app_state.number_directory
    async with asyncio.timeout(20):
        while known.get("twilio", answer.json()["e164"]).fallback_number != fallback:
            await asyncio.sleep(0.02)


async def test_a_call_that_waited_too_long_goes_to_the_fallback(
    server: RunningServer, tenant: Tenant, proxy: DatabaseProxy
) -> None:
    """When the number's patience is over, the call is connected to its fallback number."""
    twilio = await called(server, tenant, fallback_number="+14155559999", patience_ms=5000)
    proxy.cut()
    now_ms = round(server.app_state.clock.now().timestamp() * 1000)
    assert redirect(await twilio.post(f"voice?waiting_since={now_ms - 1000}"))
    for webhook in ("voice", "resume"):
        reply = await twilio.post(f"{webhook}?waiting_since={now_ms - 6000}")
        assert reply.twiml.findtext("./Dial/Number") == "+14155559999"


async def test_without_a_fallback_the_carrier_says_that_something_is_wrong(
    server: RunningServer, tenant: Tenant, proxy: DatabaseProxy
) -> None:
    """A number without fallback: the carrier's voice says it in the orchestrator's language and hangs up."""
    twilio = await called(server, tenant, patience_ms=0)
    proxy.cut()
    reply = await twilio.post("voice")
    assert reply.verbs == ["Say", "Hangup"]
    assert reply.twiml.findtext("./Say") == failure_texts("de").goodbye
    assert reply.twiml[0].get("language") == "de-DE"


async def test_an_odd_time_of_waiting_counts_as_now(
    server: RunningServer, tenant: Tenant, proxy: DatabaseProxy
) -> None:
    """A time that is no number, or is in the future, begins the wait again."""
    twilio = await called(server, tenant)
    proxy.cut()
    assert redirect(await twilio.post("voice", origin=PUBLIC_URL)).startswith("voice?waiting_since=")
    for since in ("", "x", "-1", "9" * 5000, "%D9%A3", "99999999999999"):
        assert redirect(await twilio.post(f"voice?waiting_since={since}")) != f"voice?waiting_since={since}"
