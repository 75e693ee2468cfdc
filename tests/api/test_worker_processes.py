"""`voicebot serve --workers 2`: any worker takes any request of a call, and a killed worker is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, unix_connect

from db.embedded import EmbeddedServer
from db.pool import Database
from tests.api.processes import VOICEBOT, start
from tests.api.server_fixture import (
    AUTH_TOKEN,
    PUBLIC_URL,
    Tenant,
    create,
    create_tenant,
    http_client,
    metric,
)
from tests.api.twilio import Twilio, close_code
from tests.api.worker_processes import DEADLINE_S, Workers, worker_processes
from tests.handoffs.stream_client import Follower
from tests.telephony.media_harness import media_message
from voicebot.sandbox.environment import Sandbox
from voicebot.supervisor import CANNOT_LISTEN

SPEECH = b"\x10" * 800
"""Sound of 100 ms in mu-law at 8,000 Hz."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(400), pytest.mark.xdist_group(name="worker_processes")]


@pytest.fixture(scope="module")
async def sandbox_environment() -> AsyncIterator[Mapping[str, str]]:
    """The environment of servers with the sandbox's vendors."""
    async with Sandbox(scripted_speech=True) as sandbox:
        yield {
            **sandbox.env,
            "PUBLIC_URL": PUBLIC_URL,
            "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
            # A slow machine must not refuse the calls of a test.
            "VOICEBOT_MAX_LAG_MS": "0",
        }


@pytest.fixture(scope="module")
async def shared_workers(
    sandbox_environment: Mapping[str, str], shared_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Workers]:
    """A server with two workers that may have two calls each."""
    directory = tmp_path_factory.mktemp("workers")
    environment = {
        **sandbox_environment,
        "DATABASE_URL": shared_dsn,
        "VOICEBOT_DATA_DIR": str(directory),
        "VOICEBOT_MAX_CALLS": "2",
    }
    async with worker_processes(environment, directory) as running:
        yield running


@pytest.fixture
def workers(shared_workers: Workers) -> Workers:
    """The server of the module: a test that stops it starts one of its own."""
    return shared_workers


@pytest.fixture
async def own_workers(
    sandbox_environment: Mapping[str, str], database: Database, tmp_path: Path
) -> AsyncIterator[Workers]:
    """A server with two workers."""
    environment = {
        **sandbox_environment,
        "DATABASE_URL": database.dsn,
        "VOICEBOT_DATA_DIR": str(tmp_path),
    }
    async with worker_processes(environment, tmp_path) as running:
        yield running


@pytest.fixture
async def tenant(workers: Workers, database: Database) -> AsyncIterator[Tenant]:
    """An account of the module's server."""
    async with create_tenant(workers.url, database) as made:
        yield made


@pytest.fixture
async def own_tenant(own_workers: Workers, database: Database) -> AsyncIterator[Tenant]:
    """An account of the test's own server."""
    async with create_tenant(own_workers.url, database) as made:
        yield made


async def called(tenant: Tenant, workers: Workers) -> Twilio:
    """Return a call to a number that an orchestrator answers with a greeting."""
    # The caller says nothing for as long as a slow machine needs to start a worker.
    patient = {"after_ms": 120_000}
    orchestrator = await tenant.orchestrator(greeting={"text": "Hello."}, idle=patient)
    number = (await tenant.owner.get(f"/numbers/{orchestrator['number_id']}")).json()
    return Twilio(workers, number["e164"])


async def of_carrier(api: httpx.AsyncClient, twilio: Twilio, **expected: Any) -> dict[str, Any]:
    """Return a call once it is as expected."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            items = (await api.get("/calls", params={"limit": 200})).json()["items"]
            for call in items:
                if call["carrier_call_id"] == twilio.call_sid and expected.items() <= call.items():
                    found: dict[str, Any] = call
                    return found
            await asyncio.sleep(0.05)


async def until_live(workers: Workers, count: int) -> None:
    """Wait until the server has so many live calls."""
    async with asyncio.timeout(DEADLINE_S):
        while await metric(workers.url, "voicebot_calls_live") != count:
            await asyncio.sleep(0.05)


async def until_ready(workers: Workers) -> None:
    """Wait until calls that were admitted, and never opened a stream, do not count any more."""
    async with asyncio.timeout(DEADLINE_S), workers[0].client() as anybody:
        while (await anybody.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.1)


async def test_each_request_of_a_call_may_reach_another_worker(workers: Workers, tenant: Tenant) -> None:
    """Webhook, media, API, event stream and metrics work at either worker; one ends the other's call."""
    twilio = await called(tenant, workers)
    voice = 'voicebot_webhook_seconds_count{carrier="twilio",status="200",webhook="voice"}'
    voices = await metric(workers.url, voice)
    token = (await workers[0].post(twilio, "voice")).token
    async with workers[1].media(twilio, token) as socket:
        call = await of_carrier(tenant.owner, twilio, status="in_progress")
        async with workers[0].media(twilio, token) as replayed:
            assert await close_code(replayed) == 1008
        await until_live(workers, 1)
        async with workers[0].client() as anybody:
            assert (await anybody.get("/readyz")).json()["calls_live"] == 1
        assert await metric(workers.url, "voicebot_workers") == 2
        assert await metric(workers.url, voice) == voices + 1
        async with workers[0].client(tenant.keys["owner"]) as api:
            ended = await api.post(f"/api/v1/calls/{call['id']}/end")
        assert (ended.status_code, await close_code(socket)) == (200, 1000)
    ended_call = await of_carrier(tenant.owner, twilio, status="ended")
    assert (ended_call["ended_by"], ended_call["end_reason"]) == ("operator", "ended_by_operator")
    await until_live(workers, 0)
    audited = (await tenant.owner.get("/audit", params={"limit": 200})).json()["items"]
    assert [entry["resource_id"] for entry in audited if entry["action"] == "end"] == [call["id"]]


async def heard(caller: ClientConnection, stream: str, audio: ClientConnection) -> str | bytes:
    """Let the caller speak until the operator hears something, which begins a little after the handshake."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            await caller.send(json.dumps({**media_message(SPEECH), "streamSid": stream}))
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(audio.recv(), 0.1)


async def test_an_operator_takes_over_the_call_of_another_worker(workers: Workers, tenant: Tenant) -> None:
    """The audio socket is relayed in both directions, whichever worker it reached, and so is its close."""
    twilio = await called(tenant, workers)
    token = (await workers[0].post(twilio, "voice")).token
    operator = tenant.clients["operator"]
    async with workers[1].media(twilio, token) as caller:
        call = await of_carrier(tenant.owner, twilio, status="in_progress")
        handoff = await create(tenant.owner, "/handoffs", {"reason": "help", "call_id": call["id"]})
        claim = await operator.post(f"/handoffs/{handoff['id']}/claim", json={"dial": False})
        assert claim.status_code == 200, claim.text
        stream = json.loads(await caller.recv())["streamSid"]
        for number in (0, 1):
            stream_token = (await operator.post("/handoffs/stream-token")).json()["token"]
            url = f"ws://worker/api/v1/handoffs/{handoff['id']}/audio?token={stream_token}"
            async with unix_connect(str(workers[number].path), url, close_timeout=1) as audio:
                assert isinstance(await heard(caller, stream, audio), bytes)
                if number == 1:
                    await audio.send('{"mute":false}')
                await audio.send('{"leave":"return"}')
                assert await close_code(audio) == 1000
        resolved = (await operator.get(f"/handoffs/{handoff['id']}")).json()
        assert (resolved["state"], resolved["cause"]) == ("resolved", "returned")
        await tenant.owner.post(f"/calls/{call['id']}/end")
        await close_code(caller)


async def test_events_of_one_worker_are_streamed_by_the_other(workers: Workers, tenant: Tenant) -> None:
    """Every connection to the port sees every handoff, whichever worker created it."""
    follower = Follower([workers.url], tenant.keys["viewer"], last=0)
    for number in (0, 1, 0, 1):
        async with workers[number].client(tenant.keys["owner"]) as api:
            made = await api.post("/api/v1/handoffs", json={"reason": "help"})
            assert made.status_code == 201, made.text
    async with asyncio.timeout(DEADLINE_S):
        await follower.follow(4)
    assert follower.seqs[:4] == [1, 2, 3, 4]


async def test_a_chat_continues_at_the_worker_that_has_it(workers: Workers, tenant: Tenant) -> None:
    """A turn that another worker receives is passed on; an unknown conversation is refused as ever."""
    agent = await create(tenant.owner, "/templates", {"name": "Helper", "prompt": "You help."})
    path = f"/api/v1/templates/{agent['id']}/chat"
    async with workers[0].client(tenant.keys["author"]) as begins:
        begun = (await begins.post(path, json={})).json()
    async with workers[1].client(tenant.keys["author"]) as goes_on:
        said = await goes_on.post(path, json={"chat_id": begun["chat_id"], "turns": ["Hello there."]})
        assert (said.status_code, said.json()["chat_id"]) == (200, begun["chat_id"])
        assert [turn["said"] for turn in said.json()["turns"]] == ["Hello there."]
        ended = await goes_on.post(path, json={"chat_id": begun["chat_id"], "end": True})
        assert ended.json()["status"] == "ended"
        unknown = await goes_on.post(path, json={"chat_id": begun["chat_id"], "turns": ["Hello?"]})
        assert (unknown.status_code, unknown.json()["code"]) == (409, "chat_not_here")
    async with workers[1].client(tenant.keys["viewer"]) as viewer:
        refused = await viewer.post(path, json={"chat_id": begun["chat_id"]})
        assert refused.status_code == 403


async def test_a_full_server_refuses_calls_at_every_worker(workers: Workers, tenant: Tenant) -> None:
    """Two workers of two calls each admit four, wherever the webhooks arrive; both say that they are full."""
    twilio = await called(tenant, workers)
    calls = [Twilio(workers, twilio.form["To"]) for _ in range(5)]
    await until_live(workers, 0)
    for number, call in enumerate(calls[:4]):
        assert (await workers[number % 2].post(call, "voice")).token
    for number in range(2):
        async with workers[number].client() as anybody:
            state = await anybody.get("/readyz")
            assert (state.status_code, state.json()["full"]) == (503, "max_calls")
    assert (await workers[1].post(calls[4], "voice")).verbs == ["Say", "Hangup"]
    await until_ready(workers)


async def test_a_header_of_workers_means_nothing_from_outside(workers: Workers) -> None:
    """A client of the port gets the metrics of all workers, whatever header it sends."""
    async with http_client() as outside:
        text = (await outside.get(f"{workers.url}/metrics", headers={"X-Voicebot-Worker": "0"})).text
    assert "voicebot_workers 2.0" in text.splitlines()


async def test_a_killed_worker_loses_no_call_and_is_replaced(
    sandbox_environment: Mapping[str, str], tmp_path: Path, data_directory: Path
) -> None:
    """After kill -9 its call resumes at the other worker; the embedded database stays; a new worker comes."""
    data = data_directory
    environment = {**sandbox_environment, "VOICEBOT_DATA_DIR": str(data)}
    async with worker_processes(environment, tmp_path) as workers, EmbeddedServer(data) as dsn:
        database = await Database.connect(dsn)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(database.close)
            tenant = await stack.enter_async_context(create_tenant(workers.url, database))
            twilio = await called(tenant, workers)
            token = (await workers[0].post(twilio, "voice")).token
            pid = workers[1].pid
            async with workers[1].media(twilio, token) as lost:
                await of_carrier(tenant.owner, twilio, status="in_progress")
                os.kill(pid, signal.SIGKILL)
                assert await close_code(lost) == 1006
            again = (await workers[0].post(twilio, "resume")).token
            async with workers[0].media(twilio, again) as socket:
                await of_carrier(tenant.owner, twilio, status="in_progress", resumes=1)
                replaced = await workers.started_again(1, pid)
                async with replaced.client() as anybody:
                    ready = await anybody.get("/readyz")
                assert (ready.status_code, ready.json()["calls_live"]) == (200, 1)
                async with replaced.client(tenant.keys["owner"]) as api:
                    call = await of_carrier(tenant.owner, twilio)
                    assert (await api.post(f"/api/v1/calls/{call['id']}/end")).status_code == 200
                assert await close_code(socket) == 1000


async def test_workers_stop_when_their_calls_have_ended(own_workers: Workers, own_tenant: Tenant) -> None:
    """SIGINT of a terminal reaches all processes and counts once; the next one ends the calls that go on."""
    twilio = await called(own_tenant, own_workers)
    token = (await own_workers[0].post(twilio, "voice")).token
    async with own_workers[1].media(twilio, token) as socket:
        await of_carrier(own_tenant.owner, twilio, status="in_progress")
        pids = [own_workers.process.pid, *(own_workers[number].pid for number in range(2))]
        for pid in pids:
            os.kill(pid, signal.SIGINT)
        async with asyncio.timeout(DEADLINE_S), own_workers[1].client() as anybody:
            while (await anybody.get("/readyz")).json()["draining"] is not True:
                await asyncio.sleep(0.05)
        assert socket.close_code is None
        own_workers.process.send_signal(signal.SIGTERM)
        await close_code(socket)
    async with asyncio.timeout(DEADLINE_S):
        assert await own_workers.process.wait() == 0


async def test_workers_stop_when_the_supervisor_is_killed(
    sandbox_environment: Mapping[str, str], shared_dsn: str, tmp_path: Path
) -> None:
    """Workers stop without the supervisor: the port is free again."""
    environment = {**sandbox_environment, "DATABASE_URL": shared_dsn, "VOICEBOT_DATA_DIR": str(tmp_path)}
    # Started as by a shell, not forked as in the other tests.
    async with worker_processes(environment, tmp_path, start) as workers:
        workers.process.kill()
        await workers.process.wait()
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    async with http_client() as anybody:
                        await anybody.get(f"{workers.url}/healthz")
                except httpx.TransportError:
                    return
                await asyncio.sleep(0.1)


async def test_workers_do_not_share_the_port_of_another_server(
    workers: Workers, database: Database, tmp_path: Path
) -> None:
    """A second server on the same port does not start, and says why."""
    environment = {
        "DATABASE_URL": database.dsn,
        "VOICEBOT_DATA_DIR": str(tmp_path),
        "VOICEBOT_PORT": workers.url.rpartition(":")[2],
        "VOICEBOT_WORKERS": "2",
    }
    process = await start((*VOICEBOT, "serve"), environment, tmp_path)
    out, errors = await process.communicate()
    assert (process.returncode, out) == (CANNOT_LISTEN, b"")
    assert b"in use" in errors


async def test_a_wrong_number_of_workers_is_said_plainly(tmp_path: Path) -> None:
    """`--workers 0` is refused in one line with the name of the setting."""
    process = await start((*VOICEBOT, "serve", "--workers", "0"), {}, tmp_path)
    out, errors = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert b"VOICEBOT_WORKERS" in errors
    assert b"Traceback" not in errors
