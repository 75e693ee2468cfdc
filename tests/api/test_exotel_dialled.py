"""Calls that Exotel places into the flow of the account, at the HTTP face of its applets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest

from db import attempts, bridged_calls, calls
from db.calls import CallRecord
from tests.api.exotel import SECRET, Exotel
from tests.api.server_fixture import RunningServer, Tenant, new_e164, serving
from tests.api.test_attempt_statuses import begun
from tests.api.twilio import StandIn, close_code
from voicebot.api.app_state import EndGrace
from voicebot.config import Settings

MINUTE = timedelta(minutes=1)

pytestmark = pytest.mark.usefixtures("call_registry")


@pytest.fixture(scope="module")
async def server(shared_settings: Settings) -> AsyncIterator[RunningServer]:
    """A server whose Exotel dials into a flow."""
    more = {"EXOTEL_WEBHOOK_SECRET": SECRET, "EXOTEL_FLOW_ID": "77", "VOICEBOT_DISPATCH": "off"}
    async with serving(shared_settings.replace(more), grace=EndGrace(own_s=0.01, others_s=0.05)) as running:
        yield running


async def dialled(
    server: RunningServer, tenant: Tenant, *, direction: str = "outbound-api"
) -> tuple[CallRecord, Exotel]:
    """An attempt, and the flow's side of its call."""
    call = await begun(server, tenant, "exotel")
    exotel = Exotel(server, call.to_number)
    exotel.fields |= {"CallFrom": call.from_number or "", "Direction": direction, "CustomField": str(call.id)}
    return call, exotel


async def now(server: RunningServer, call: CallRecord) -> CallRecord:
    """The row of a call."""
    return await calls.get(server.app_state.database, call.account_id, call.id)


async def placed(server: RunningServer, call: CallRecord, sid: str) -> CallRecord | None:
    """Exotel answers the request to dial."""
    return await attempts.placed(server.app_state.database, call.account_id, call.id, sid, MINUTE)


@pytest.mark.parametrize("direction", ["outbound-api", "outbound-dial", "incoming", ""])
@pytest.mark.parametrize("is_answered_first", [True, False])
async def test_the_flow_of_a_dialled_call_finds_its_row(
    server: RunningServer,
    tenant: Tenant,
    call_registry: StandIn,
    is_answered_first: bool,
    direction: str,
) -> None:
    """Whether the Voicebot applet or the answer to the request comes first, and however often it asks."""
    call, exotel = await dialled(server, tenant, direction=direction)
    if is_answered_first:
        assert await placed(server, call, exotel.call_sid)
    urls = {await exotel.url() for _ in range(3)}
    assert len(urls) == 3
    assert (await now(server, call)).carrier_call_id == exotel.call_sid
    assert await placed(server, call, exotel.call_sid)
    assert await placed(server, call, "another") is None
    assert [each["id"] for each in (await tenant.owner.get("/calls")).json()["items"]] == [str(call.id)]
    async with exotel.media(urls.pop()), asyncio.timeout(30):
        await call_registry.arrived.wait()
    assert list(call_registry.answered) == [call.id]


async def test_the_reference_of_another_call_opens_none(server: RunningServer, tenant: Tenant) -> None:
    """An attempt has one call at Exotel; another CallSid with its id is refused."""
    call, exotel = await dialled(server, tenant)
    await exotel.url()
    other = Exotel(server, call.to_number)
    other.fields |= {name: exotel.fields[name] for name in ("CallFrom", "Direction", "CustomField")}
    assert (await other.ask("voice")).status_code == 404
    assert (await now(server, call)).carrier_call_id == exotel.call_sid


async def test_a_dialled_call_is_led_to_a_person_and_back(server: RunningServer, tenant: Tenant) -> None:
    """The person sees our number; when nobody answers, the call continues with its agent."""
    call, exotel = await dialled(server, tenant)
    await exotel.url()
    app, person = server.app_state, new_e164()
    await calls.answered(app.database, call.account_id, call.id, app.clock.now())
    assert await bridged_calls.begin_transfer(app.database, call.account_id, call.id, person)
    assert (await exotel.ask("to-person")).status_code == 200
    reply = (await exotel.ask("connect")).json()
    assert reply["destination"] == {"numbers": [person]}
    assert reply["outgoing_phone_number"] == call.from_number
    assert (await exotel.ask("again", DialCallStatus="no-answer")).status_code == 200
    assert (await exotel.ask("voice")).status_code == 200
    back = await now(server, call)
    assert (back.status, back.resumes, back.connect_to) == ("in_progress", 1, None)


async def test_the_stream_of_a_dialled_call_that_was_lost_comes_back(
    server: RunningServer, tenant: Tenant
) -> None:
    """Passthru B leads back to the Voicebot applet, which is given another address."""
    call, exotel = await dialled(server, tenant)
    first = await exotel.url()
    app = server.app_state
    await calls.answered(app.database, call.account_id, call.id, app.clock.now())
    assert await exotel.branches() == (302, 200)
    assert await exotel.url() != first
    assert (await now(server, call)).resumes == 1


async def test_a_call_that_is_cancelled_before_its_stream_begins_is_closed(
    server: RunningServer, tenant: Tenant, call_registry: StandIn
) -> None:
    """The Voicebot applet has its address already; the stream is refused, and the flow ends the call."""
    call, exotel = await dialled(server, tenant)
    url = await exotel.url()
    cancel = await tenant.owner.post(f"/leads/{call.lead_id}/cancel")
    assert cancel.status_code == 200, cancel.text
    async with exotel.media(url) as socket:
        assert await close_code(socket) == 1008
    assert await exotel.branches() == (302, 302)
    ended = await now(server, call)
    assert (ended.status, ended.ended_by, ended.end_reason) == ("ended", "system", "canceled")
    assert (ended.answered_at, call_registry.answered) == (None, {})


async def test_a_call_that_was_cancelled_while_it_rang_is_led_to_hangup(
    server: RunningServer, tenant: Tenant
) -> None:
    """The Voicebot applet gets no address, and both Passthru applets answer 302."""
    call, exotel = await dialled(server, tenant)
    assert await placed(server, call, exotel.call_sid)
    cancel = await tenant.owner.post(f"/leads/{UUID(str(call.lead_id))}/cancel")
    assert cancel.status_code == 200, cancel.text
    assert (await exotel.ask("voice")).status_code == 302
    assert await exotel.branches() == (302, 302)
    ended = await now(server, call)
    assert (ended.status, ended.ended_by, ended.end_reason) == ("ended", "system", "canceled")
    assert ended.answered_at is None
