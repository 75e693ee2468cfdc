"""Every operation of the API gets bodies at the limits of their size and beyond: none takes long or fails."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from db.pool import Database
from tests.api.api_fixtures import BODIES, STREAM, Ids, Operation, build, nothing, operations
from tests.api.server_fixture import RunningServer, Tenant

MAX_CPU_S = 0.25
"""CPU time of the process for one request, on top of what the test's own client needs for it."""

LIMIT = 2 * 1024 * 1024
PADDING = 4096


BEYOND = frozenset({"deeper", "endless", "not_json", "too_long"})
"""Kinds of bodies that no operation accepts."""


def bodies(honest: Mapping[str, Any]) -> dict[str, bytes]:
    """Return bodies of the largest size allowed, and of more, by what is large in them."""
    text = json.dumps(honest)[:-1]
    separator = "," if honest else ""

    def with_member(value: str) -> bytes:
        return f'{text}{separator}"name":{value}}}'.encode()

    room = LIMIT - PADDING - len(text)
    large = {
        "long_text": with_member(f'"{"x" * room}"'),
        "braces": with_member(f'"{"{{ a" * (room // 4)}"'),
        "many_values": with_member(f"[{','.join('0' * 180_000)}]"),
        "many_names": with_member("{" + ",".join(f'"k{n}":1' for n in range(90_000)) + "}"),
        "deep": with_member("[" * 60 + "]" * 60),
        "deeper": with_member("[" * 300 + "]" * 300),
        "endless": with_member("[" * 200_000),
        "not_json": b"{" * 50_000,
        "list": b"[" + b"{}," * 60_000 + b"{}]",
        "number": with_member("9" * 5000),
        "surrogate": with_member('"\\ud800"'),
    }
    return {**large, "too_long": with_member(f'"{"x" * LIMIT}"')}


def content_type(operation: Operation) -> str:
    """Return a media type that the operation accepts."""
    content = operation.document.get("requestBody", {}).get("content", {"application/json": {}})
    return str(next(iter(content)))


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_bodies_at_and_beyond_the_limits_are_answered_soon(
    server: RunningServer, tenant: Tenant, database: Database
) -> None:
    """Whatever the body of a request is, the answer takes at most 250 ms of CPU time and is never a 500.

    Beyond a limit the answer is a refusal.
    """
    ids = await build(tenant, database)
    faults: list[str] = []
    for operation in operations(server.app):
        if operation.path == STREAM or not operation.changes:
            continue
        gc.collect()
        for kind, body in bodies(honest_body(operation, ids)).items():
            faults += await _faults(tenant, operation, ids, kind, body)
    assert not faults, "\n".join(faults)


def honest_body(operation: Operation, ids: Ids) -> Mapping[str, Any]:
    """Return a body that the operation accepts, as far as one is known."""
    make = BODIES.get(operation.name)
    first = make(nothing(ids))[0] if make else {}
    return first if isinstance(first, dict) else {}


async def _faults(tenant: Tenant, operation: Operation, ids: Ids, kind: str, body: bytes) -> list[str]:
    headers = {"Content-Type": content_type(operation), "If-Match": '"1"'}
    own = time.process_time()
    request = tenant.owner.build_request(
        operation.method, operation.about(nothing(ids)), content=body, headers=headers
    )
    own = time.process_time() - own
    # A collection depends on everything that the worker has run before.
    gc.disable()
    try:
        began = time.process_time()
        response = await tenant.owner.send(request)
        taken = time.process_time() - began - own
    finally:
        gc.enable()
    what = f"{operation.method} {operation.path} with {kind}: {response.status_code}"
    problems = [f"{what}, {taken * 1000:.0f} ms"] if taken > MAX_CPU_S else []
    if response.status_code >= 500:
        problems.append(f"{what}, {response.text[:200]}")
    beyond = "requestBody" in operation.document and kind in BEYOND
    if beyond and response.status_code < 400 and not _is_refusing_report(response):
        problems.append(f"{what}, not refused")
    return problems


def _is_refusing_report(response: httpx.Response) -> bool:
    """Whether the answer is the report of a check that found errors."""
    return response.json().get("ok") is False
