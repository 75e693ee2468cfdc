"""What a full server answers to new calls."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from db import carrier_calls
from db.pool import Database
from tests.api.server_fixture import RunningServer, Tenant, http_client, metric, serving
from tests.api.twilio import Twilio, called
from voicebot.admission import Admission
from voicebot.config import Settings


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[RunningServer]:
    """A server that has at most one call."""
    async with serving(settings.model_copy(update={"max_calls": 1})) as running:
        yield running


@pytest.fixture
async def answered(server: RunningServer, tenant: Tenant) -> Twilio:
    """The call that fills the server."""
    twilio = await called(server, tenant)
    assert (await twilio.post("voice")).token
    return twilio


async def test_a_full_server_gives_a_call_the_fallback_of_its_number(
    server: RunningServer, tenant: Tenant, answered: Twilio, database: Database
) -> None:
    """A new call is connected to the fallback number, ended with `no_capacity` and counted."""
    number = next(n for n in await numbers(tenant) if n["e164"] == answered.form["To"])
    fallback = {"fallback_number": "+14155559999"}
    await tenant.owner.patch(f"/numbers/{number['id']}", json=fallback, headers={"If-Match": "*"})
    await server.app_state.number_directory.refresh()
    second = Twilio(server, answered.form["To"])
    for _ in range(2):  # the carrier may send the webhook again
        assert (await second.post("voice")).twiml.findtext("./Dial/Number") == "+14155559999"
    call = await carrier_calls.by_carrier_id(database, "twilio", second.call_sid)
    assert (call.status, call.ended_by, call.end_reason) == ("ended", "system", "no_capacity")
    events = (await tenant.owner.get(f"/calls/{call.id}/events")).json()["items"]
    assert (events[-1]["type"], events[-1]["data"]["cause"]) == ("call.ended", "max_calls")
    assert await metric(server.url, 'voicebot_calls_refused_total{reason="max_calls"}') == 1


async def test_a_full_server_says_so_without_a_fallback_number(
    server: RunningServer, answered: Twilio
) -> None:
    """The carrier says a line in the number's language and hangs up."""
    assert (await Twilio(server, answered.form["To"]).post("voice")).verbs == ["Say", "Hangup"]


async def test_a_full_server_keeps_the_calls_it_has(answered: Twilio) -> None:
    """The webhooks of a call that was admitted are answered as before."""
    assert (await answered.post("voice")).token
    assert (await answered.post("resume")).token


@pytest.mark.usefixtures("answered")
async def test_a_full_server_is_not_ready(server: RunningServer) -> None:
    """/readyz answers 503 with the reason."""
    async with http_client() as client:
        response = await client.get(f"{server.url}/readyz")
    assert (response.status_code, response.json()["full"]) == (503, "max_calls")


async def test_a_late_server_gives_calls_the_fallback(server: RunningServer, answered: Twilio) -> None:
    """A server whose event loop is late refuses calls before it has as many as it may have."""
    state = server.app_state
    late = Admission(state.clock, set, max_calls=None, max_lag_ms=0.5)
    for _ in range(100):
        late.observe(100)
    late.expect((await carrier_calls.by_carrier_id(state.database, "twilio", answered.call_sid)).id)
    state.admission = late
    assert (await Twilio(server, answered.form["To"]).post("voice")).verbs == ["Say", "Hangup"]
    assert await metric(server.url, 'voicebot_calls_refused_total{reason="late"}') == 1


async def numbers(tenant: Tenant) -> list[dict[str, str]]:
    """Return the tenant's numbers."""
    items: list[dict[str, str]] = (await tenant.owner.get("/numbers")).json()["items"]
    return items
