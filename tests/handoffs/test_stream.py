"""The event stream over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from db import handoff_events, keys
from db.ids import new_id
from db.notify import APPLICATION
from db.pool import Database, Executor
from tests.api.server_fixture import RunningServer, Tenant, create_tenant, http_client, serving
from tests.handoffs.stream_client import Follower, events
from voicebot.api.app_state import StreamLimits
from voicebot.api.handoff_stream import EventStream
from voicebot.api.limits import Limits
from voicebot.api.open_streams import OpenStreams
from voicebot.api.problems import ApiProblem
from voicebot.config import Settings
from voicebot.handoffs.event_broker import EventBroker, Heartbeat, Reset
from voicebot.server import UNREAD_MS

EVENTS = 300


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings of a server without vendors."""
    return Settings(
        _env_file=None, database_url=database_url, data_dir=tmp_path, port=0, drain_timeout_ms=500
    )


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[RunningServer]:
    """A running server."""
    async with serving(settings) as running:
        yield running


@pytest.fixture
async def tenant(server: RunningServer, database: Database) -> AsyncIterator[Tenant]:
    """An account."""
    async with create_tenant(server.url, database) as moved:
        yield moved


async def append_events(database: Database, account: UUID, count: int = 1, **data: str) -> None:
    for _ in range(count):
        async with database.transaction() as transaction:
            await handoff_events.append(transaction, account, "handoff.offered", datetime.now(UTC), data=data)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


async def first(follower: Follower) -> None:
    async for _ in follower.connection():
        return


async def test_events_come_in_order_and_resume_where_they_were_left(
    server: RunningServer, tenant: Tenant
) -> None:
    """Events that were committed before come first, once; then new ones."""
    for _ in range(3):
        await tenant.owner.post("/handoffs", json={"reason": "help"})
    follower = Follower([server.url], tenant.keys["viewer"], last=0)
    await asyncio.wait_for(follower.follow(2), 30)
    seen = follower.last
    await tenant.owner.post("/handoffs", json={"reason": "help"})
    await asyncio.wait_for(follower.follow(4), 30)

    assert seen in (2, 3)
    assert follower.seqs == [1, 2, 3, 4]
    assert follower.received[0].event == "handoff.created"


async def test_without_a_last_id_the_stream_begins_now(
    server: RunningServer, tenant: Tenant, database: Database
) -> None:
    """A subscriber without a position gets every event committed after it was counted, and no earlier one."""
    await append_events(database, tenant.account_id, 5)
    follower = Follower([server.url], tenant.keys["viewer"])
    listening = asyncio.create_task(first(follower))
    await until(lambda: server.app_state.handoffs.broker.followers == 1)
    await append_events(database, tenant.account_id)
    await asyncio.wait_for(listening, 30)

    assert follower.seqs == [6]


async def test_a_position_that_is_not_stored_is_reset(
    server: RunningServer, tenant: Tenant, database: Database
) -> None:
    """If the events after a position were deleted, a reset event gives the number to continue from."""
    await append_events(database, tenant.account_id, 5)
    await handoff_events.delete_old(database, datetime.now(UTC) + timedelta(days=1), limit=1000)
    await append_events(database, tenant.account_id)
    follower = Follower([server.url], tenant.keys["viewer"], last=2)
    await asyncio.wait_for(first(follower), 30)
    from_the_future = Follower([server.url], tenant.keys["viewer"], last=99)
    await asyncio.wait_for(first(from_the_future), 30)

    for one in (follower, from_the_future):
        assert [(event.event, event.id, event.data) for event in one.received] == [
            ("reset", 6, {"as_of_seq": 6})
        ]


async def test_a_token_opens_the_stream_for_a_minute(server: RunningServer, tenant: Tenant) -> None:
    """A client without headers uses a token; a forged, expired or missing one is 401."""
    token = (await tenant.clients["viewer"].post("/handoffs/stream-token")).json()["token"]
    url = f"{server.url}/api/v1/handoffs/stream"
    old = server.app_state.stream_tokens.issue(
        tenant.account_id, tenant.account_id, server.app_state.clock.now() - timedelta(seconds=70)
    )
    async with http_client() as client:
        async with client.stream("GET", url, params={"token": token, "after": 0}) as opened:
            assert opened.status_code == 200
            assert opened.headers["content-type"].startswith("text/event-stream")
        for bad in ({}, {"token": "forged"}, {"token": old}):
            assert (await client.get(url, params=bad)).status_code == 401


async def test_an_open_stream_renews_its_token(server: RunningServer, tenant: Tenant) -> None:
    """A token that is older than a minute opens the stream again if a stream with it was open lately."""
    viewer, url = tenant.clients["viewer"], f"{server.url}/api/v1/handoffs/stream"
    fresh = (await viewer.post("/handoffs/stream-token")).json()["token"]
    clock, tokens = server.app_state.clock, server.app_state.stream_tokens
    account_id, key_id = tokens.read(fresh, clock.now())
    old, never_used = (
        tokens.issue(account_id, key_id, clock.now() - timedelta(seconds=age)) for age in (58, 70)
    )
    async with http_client() as client:
        async with client.stream("GET", url, params={"token": old}) as opened:
            await anext(opened.aiter_text())
        await asyncio.sleep(3)
        async with client.stream("GET", url, params={"token": old}) as opened:
            assert opened.status_code == 200
        assert (await client.get(url, params={"token": never_used})).status_code == 401


async def test_a_revoked_key_ends_the_stream(
    server: RunningServer, tenant: Tenant, database: Database
) -> None:
    """The key is checked again while the stream is open; no event is sent after it was revoked."""
    follower = Follower([server.url], tenant.keys["operator"], last=0)
    await append_events(database, tenant.account_id)
    await asyncio.wait_for(follower.follow(1), 30)
    await until(lambda: not server.app_state.handoffs.broker.followers)
    listening = asyncio.create_task(first(follower))
    await until(lambda: server.app_state.handoffs.broker.followers == 1)
    page = await keys.list_keys(database, tenant.account_id, limit=10)
    [key] = [key for key in page.items if key.role == "operator"]
    await keys.revoke(database, tenant.account_id, key.id)
    await append_events(database, tenant.account_id)
    await asyncio.wait_for(listening, 30)

    assert follower.seqs == [1]


@pytest.mark.parametrize("sends", [False, True])
async def test_a_stream_whose_key_is_revoked_begins_and_ends_once(
    server: RunningServer, database: Database, sends: bool
) -> None:
    """Whether it was sending or has sent nothing yet, the response has one start and one end."""
    opened = OpenStreams(database, server.app_state.clock, Limits()).open(new_id(), new_id())
    sent: list[Any] = []

    async def chunks() -> AsyncGenerator[str, None]:
        if sends:
            yield ": connected"
        else:
            await asyncio.Event().wait()

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        opened.revoked.set()
        sent.append(message)

    await EventStream(chunks(), opened, send_timeout_s=60)({"type": "http"}, receive, send)
    assert sent[0]["type"] == "http.response.start"
    assert [each.get("more_body") for each in sent[1:]].count(False) == 1


async def test_a_revoked_keys_idle_stream_is_closed_at_once(
    server: RunningServer, tenant: Tenant, database: Database
) -> None:
    """A stream on which nothing happens ends when its key is revoked: by the API, or by another process."""
    listed = (await keys.list_keys(database, tenant.account_id, limit=10)).items
    for role in ("admin", "viewer"):
        [key] = [each for each in listed if each.role == role]
        follower = Follower([server.url], tenant.keys[key.role], last=0)
        listening = asyncio.create_task(first(follower))
        await until(lambda: server.app_state.handoffs.broker.followers == 1)
        [opened] = server.app_state.open_streams
        if role == "viewer":
            assert (await tenant.owner.delete(f"/keys/{key.id}")).status_code == 204
            assert opened.revoked.is_set()
        else:
            await keys.revoke(database, tenant.account_id, key.id)
        await asyncio.wait_for(listening, 30)
        await until(lambda: not server.app_state.handoffs.broker.followers)
        assert not list(server.app_state.open_streams)


async def test_streams_are_limited_by_key_and_account(
    server: RunningServer, tenant: Tenant, database: Database
) -> None:
    """Beyond the limit of its key or account a stream is answered 429; one that ended counts no more."""
    clock, one, other = server.app_state.clock, new_id(), new_id()
    streams = OpenStreams(database, clock, Limits(streams_per_key=2, streams_per_account=3))
    followers = [(one, one), (one, one), (one, other), (other, other)]
    opened = [streams.open(*follower) for follower in followers[:3]]
    for follower, limit in ((followers[0], "streams_per_key"), (followers[2], "streams_per_account")):
        with pytest.raises(ApiProblem) as refused:
            streams.open(*follower)
        assert (refused.value.code, refused.value.limit) == ("rate_limited", limit)
        assert refused.value.headers["Retry-After"]
    streams.open(*followers[3])
    for _ in range(2):
        opened[0].close()
    streams.open(*followers[0])
    assert len(list(streams)) == 4

    server.app_state.open_streams = OpenStreams(database, clock, Limits(streams_per_key=0))
    answer = await tenant.owner.get("/handoffs/stream")
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")


async def test_one_query_serves_all_followers_of_an_account(
    tenant: Tenant, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many follow, an event is read once, and nothing is read while nothing happens."""
    reads: list[int] = []
    after = handoff_events.after

    async def counted(db: Executor, account_id: UUID, seq: int, *, limit: int) -> Any:
        reads.append(seq)
        return await after(db, account_id, seq, limit=limit)

    monkeypatch.setattr(handoff_events, "after", counted)
    broker = EventBroker(database, heartbeat_s=60)
    async with contextlib.AsyncExitStack() as stack:
        following = [broker.follow(tenant.account_id, 0) for _ in range(100)]
        waiting = [asyncio.ensure_future(anext(each)) for each in following]

        async def leave() -> None:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await asyncio.gather(*(each.aclose() for each in following))

        stack.push_async_callback(leave)
        await until(lambda: broker.followers == 100 and not broker.reading)
        reads.clear()
        for seq in range(1, 6):
            await append_events(database, tenant.account_id)
            broker.wake(tenant.account_id, seq)
            batches = await asyncio.wait_for(asyncio.gather(*waiting), 10)
            assert all(not isinstance(batch, (Reset, Heartbeat)) for batch in batches)
            assert {batch[-1].seq for batch in batches if not isinstance(batch, (Reset, Heartbeat))} == {seq}
            waiting = [asyncio.ensure_future(anext(each)) for each in following]
            await asyncio.sleep(0.01)
        assert reads == [0, 1, 2, 3, 4]
        late = broker.follow(tenant.account_id, 2)
        stack.push_async_callback(late.aclose)
        batch = await anext(late)
        assert not isinstance(batch, (Reset, Heartbeat))
        assert [event.seq for event in batch] == [3, 4, 5]
        assert reads == [0, 1, 2, 3, 4]
    assert broker.followers == 0


async def test_without_notifications_events_arrive_by_polling(
    server: RunningServer, tenant: Tenant, database: Database
) -> None:
    """An event arrives although the listening connection is killed repeatedly."""
    follower = Follower([server.url], tenant.keys["viewer"], last=0)
    listening = asyncio.create_task(first(follower))
    await until(lambda: server.app_state.handoffs.broker.followers == 1)

    killed = 0

    async def kill() -> None:
        nonlocal killed
        while True:
            killed += await kill_the_listeners(database)
            await asyncio.sleep(0.01)

    killing = asyncio.create_task(kill())
    await until(lambda: killed > 0)
    await append_events(database, tenant.account_id)
    try:
        await asyncio.wait_for(listening, 30)
    finally:
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)
    assert follower.seqs == [1]


async def test_no_event_is_missing_repeated_or_foreign(settings: Settings, database: Database) -> None:
    """With two replicas, killed listeners and closed connections, every event arrives once, in order."""
    async with contextlib.AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(serving(settings)) for _ in range(2)]
        mine = await stack.enter_async_context(create_tenant(replicas[0].url, database))
        theirs = await stack.enter_async_context(create_tenant(replicas[1].url, database))
        follower = Follower(
            [replica.url for replica in replicas], mine.keys["viewer"], last=0, chance=random.Random(4)
        )
        following = asyncio.create_task(follower.follow(EVENTS))
        appending = [
            asyncio.create_task(append_events(database, account, EVENTS // 2))
            for account in (mine.account_id, theirs.account_id, mine.account_id)
        ]
        await asyncio.gather(*appending, kill_listeners_repeatedly(database, 3))
        await asyncio.wait_for(following, 60)

    assert follower.seqs == list(range(1, EVENTS + 1))
    assert follower.connections > 10
    assert {one.event for one in follower.received} == {"handoff.offered"}


async def kill_the_listeners(database: Database) -> int:
    """End the listening connections of this database, not of others; return how many there were."""
    return await database.execute(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = $1 AND datname = current_database()
        """,
        APPLICATION,
    )


async def kill_listeners_repeatedly(database: Database, times: int) -> None:
    """End the listening connections again each time that there is one."""
    async with asyncio.timeout(60):
        while times:
            times -= await kill_the_listeners(database) > 0
            await asyncio.sleep(0.1)


async def test_a_follower_gets_a_heartbeat_when_nothing_happens(tenant: Tenant, database: Database) -> None:
    """A heartbeat tells an idle connection from a dead one."""
    broker = EventBroker(database, heartbeat_s=0.05)
    items = broker.follow(str(tenant.account_id))
    async with contextlib.aclosing(items):
        assert isinstance(await anext(items), Heartbeat)


async def test_a_string_and_a_uuid_of_one_account_are_one(tenant: Tenant, database: Database) -> None:
    """Subscribers are woken for every spelling of the account's id."""
    broker = EventBroker(database)
    spellings = (tenant.account_id, str(tenant.account_id), str(tenant.account_id).upper())
    following = [broker.follow(spelling, 0) for spelling in spellings]
    waiting = [asyncio.ensure_future(anext(one)) for one in following]
    await until(lambda: broker.followers == 3)
    await append_events(database, tenant.account_id)
    broker.wake(tenant.account_id, 1)
    batches = await asyncio.wait_for(asyncio.gather(*waiting), 30)
    for one in following:
        await one.aclose()

    assert all(not isinstance(item, (Reset, Heartbeat)) and item[0].seq == 1 for item in batches)
    assert broker.followers == 0


async def test_a_slow_client_is_disconnected_and_resumes(
    server: RunningServer, tenant: Tenant, database: Database
) -> None:
    """A client that does not read is disconnected; no event is missing after it resumes."""
    server.app_state.stream_limits = StreamLimits(send_timeout_s=0.3)
    await append_events(database, tenant.account_id, 60, text="x" * 200_000)
    url = f"{server.url}/api/v1/handoffs/stream"
    headers = {"Authorization": f"Bearer {tenant.keys['viewer']}", "Last-Event-ID": "0"}
    async with http_client() as client, client.stream("GET", url, headers=headers) as response:
        last = 0
        received = events(response)
        last = (await anext(received)).id or 0
        await until(lambda: not server.app_state.handoffs.broker.followers)
        with contextlib.suppress(httpx.HTTPError):
            async for one in received:
                assert one.id == last + 1
                last = one.id
    assert 0 < last < 60
    follower = Follower([server.url], tenant.keys["viewer"], last=last)
    await asyncio.wait_for(follower.follow(60), 30)

    assert follower.seqs == list(range(last + 1, 61))


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="an option of Linux")
async def test_a_client_that_never_reads_loses_its_connection(
    server: RunningServer, tenant: Tenant, database: Database
) -> None:
    """The server closes its socket and discards the buffers."""
    server.app_state.stream_limits = StreamLimits(send_timeout_s=0.3)
    [listening] = server.call_server.servers[0].sockets
    assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNREAD_MS
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 500)
    await append_events(database, tenant.account_id, 60, text="x" * 200_000)
    with socket.socket() as client_socket:
        client_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client_socket.connect(listening.getsockname())
        key = tenant.keys["viewer"]
        head = ["GET /api/v1/handoffs/stream?after=0 HTTP/1.1", "Host: x", f"Authorization: Bearer {key}"]
        client_socket.sendall("\r\n".join([*head, "", ""]).encode())
        me = client_socket.getsockname()

        def is_held() -> bool:
            return any(
                one.transport.get_extra_info("peername") == me
                for one in server.call_server.server_state.connections
            )

        await until(is_held)
        await until(lambda: not is_held())
    assert server.app_state.handoffs.broker.followers == 0
