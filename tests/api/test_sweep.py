"""Two accounts' keys over the whole OpenAPI document: neither finds anything of the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any

import httpx

from db.pool import Database
from tests.api import api_fixtures
from tests.api.api_fixtures import BODIES, NAMES_NOTHING, NOBODY, STREAM, UUID_FORM, WORD, Ids, Operation
from tests.api.conftest import NewTenant
from tests.api.server_fixture import RunningServer, Tenant, create
from tests.handoffs.stream_client import Follower

TELLS_NOTHING = {
    ("GET", "/templates/schema"): "the same for everybody",
    ("GET", "/metrics/handoffs"): "figures",
    ("GET", "/providers"): "states of vendors, the same for everybody",
    ("GET", "/operators/me"): "oneself",
    ("GET", "/dispatch"): "names paused templates only; test_dispatch",
    ("GET", "/handoffs/stream"): "has tests of its own",
}
"""Readings that tell of nothing by its name, even to its own account."""


async def test_an_account_finds_nothing_of_another(
    server: RunningServer, new_tenant: NewTenant, database: Database
) -> None:
    """Ids of another account are answered as unknown ids, no list contains its rows, and nothing changes."""
    theirs, mine = await new_tenant(), await new_tenant()
    ids = await api_fixtures.build(theirs, database)
    before = await api_fixtures.rows_of(database, theirs.account_id)
    marks = {WORD, WORD.lower(), *UUID_FORM.findall(str(before))}

    for operation in api_fixtures.operations(server.app):
        if operation.path == STREAM:
            continue
        if operation.parameters or operation.changes:
            await refused_alike(mine, operation, ids)
        else:
            async for answer in readings(mine, operation, ids):
                assert not leaked(marks, without(ids, answer)), (operation.name, answer.text)
    root = str(mine.owner.base_url).removesuffix(f"{api_fixtures.PREFIX}/")
    for path in ("/healthz", "/readyz", "/metrics"):
        assert not leaked(marks, (await mine.owner.get(f"{root}{path}")).text), path
    assert await api_fixtures.rows_of(database, theirs.account_id) == before


async def test_what_others_do_not_find_is_there(
    server: RunningServer, tenant: Tenant, database: Database
) -> None:
    """The paths that hide the rows from other accounts show them to their own account."""
    ids = await api_fixtures.build(tenant, database)
    for operation in api_fixtures.operations(server.app):
        if operation.changes or operation.name in TELLS_NOTHING:
            continue
        answer = await tenant.owner.get(operation.about(ids))
        assert answer.status_code == 200, operation.name
        assert leaked({WORD, *ids.values()} - {ids["revision"]}, answer.text), operation.name


async def test_the_stream_tells_of_ones_own_desk_alone(
    server: RunningServer, new_tenant: NewTenant, database: Database
) -> None:
    """From the first event on, each account gets events of its own handoffs and none of the other's."""
    theirs, mine = await new_tenant(), await new_tenant()
    ids = await api_fixtures.build(theirs, database)
    handoff = await create(mine.owner, "/handoffs", {"reason": "mine"})
    follower = Follower([server.url], mine.keys["viewer"], last=0)
    await asyncio.wait_for(follower.follow(1), 30)
    assert [one.data["handoff_id"] for one in follower.received] == [handoff["id"]]
    assert not leaked({WORD, ids["handoff_id"], ids["call_id"]}, str(follower.received))


async def test_an_idempotency_key_is_its_accounts_own(new_tenant: NewTenant) -> None:
    """The key that made another account's handoff makes one of this account's, and exposes nothing."""
    theirs, mine = await new_tenant(), await new_tenant()
    headers, asked = {"Idempotency-Key": "k1"}, {"reason": WORD}
    first = await theirs.owner.post("/handoffs", json=asked, headers=headers)
    second = await mine.owner.post("/handoffs", json=asked, headers=headers)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]
    assert "Idempotency-Replayed" not in second.headers


async def test_the_sweep_covers_every_operation(
    server: RunningServer, tenant: Tenant, database: Database
) -> None:
    """A path that cannot be filled in, or a change that is not asked with another's ids, fails here."""
    ids = await api_fixtures.build(tenant, database)
    for operation in api_fixtures.operations(server.app):
        assert operation.parameters <= ids.keys(), operation.name
        names_something = "'uuid'" in str(operation.document.get("requestBody", {}).get("content"))
        if operation.changes and not operation.parameters:
            assert (operation.name in BODIES) is not (operation.name in NAMES_NOTHING), operation.name
            assert operation.name in BODIES or not names_something, operation.name
    known = {operation.name for operation in api_fixtures.operations(server.app)}
    assert known >= BODIES.keys() | NAMES_NOTHING.keys() | TELLS_NOTHING.keys()


async def refused_alike(asking: Tenant, operation: Operation, ids: Ids) -> None:
    """Request rows of another account and rows that do not exist: the responses are the same."""
    if operation.name in NAMES_NOTHING:
        return
    for foreign, missing in zip(
        bodies(operation, ids), bodies(operation, api_fixtures.nothing(ids)), strict=True
    ):
        answer = await ask(asking, operation, ids, foreign)
        nothing = await ask(asking, operation, api_fixtures.nothing(ids), missing)
        assert (answer.status_code, without(ids, answer)) == (nothing.status_code, nothing.text), (
            operation.name
        )
        if operation.parameters:
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), operation.name


async def readings(asking: Tenant, operation: Operation, ids: Ids) -> AsyncIterator[httpx.Response]:
    """A list as it is, and narrowed to each of the ids by each of its filters."""
    path = operation.about(ids)
    yield await asking.owner.get(path)
    for name in operation.filters:
        for id in set(ids.values()) - {ids["revision"]}:
            yield await asking.owner.get(path, params={name: id})


async def ask(asking: Tenant, operation: Operation, ids: Ids, body: Any) -> httpx.Response:
    headers = {"If-Match": "*"}
    return await asking.owner.request(operation.method, operation.about(ids), json=body, headers=headers)


def bodies(operation: Operation, ids: Ids) -> list[Any]:
    return list(BODIES[operation.name](ids)) if operation.name in BODIES else [None]


def without(ids: Ids, answer: httpx.Response) -> str:
    """An answer's text with the ids that were asked for, which a refusal repeats, taken out."""
    text = answer.text
    if answer.is_success:
        return text
    for name, id in ids.items():
        text = text if name == "revision" else text.replace(id, NOBODY)
    return text


def leaked(marks: Collection[str], text: str) -> set[str]:
    """The marks that are in a text."""
    return {mark for mark in marks if mark in text}
