"""Limits of what a client may send: each is refused with a typed problem, before it costs time or memory."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.api.server_fixture import (
    PUBLIC_URL,
    RunningServer,
    Tenant,
    client,
    http_client,
    metric,
    serving,
    signed,
)
from tests.api.twilio import close_code, start_message
from voicebot.api.limits import DEFAULT_LIMITS as LIMITS

NUMBER = "/numbers/01a1fb64-16ef-7341-baef-1bff17f7b0e5"
CHAT = "/templates/01a1fb64-16ef-7341-baef-1bff17f7b0e5/chat"
CPU_S = 0.25
"""What a refused request may cost on the event loop's thread, that of the client in this process included."""


@contextmanager
def cheap() -> Iterator[None]:
    """Fail if the block takes more CPU time than a refusal may cost."""
    before = time.thread_time()
    yield
    assert time.thread_time() - before < CPU_S


def refusal(response: httpx.Response) -> tuple[int, str]:
    """The status and the code of a problem document."""
    return response.status_code, response.json()["code"]


async def reached(server: RunningServer, limit: str) -> float:
    """How often a limit was reached."""
    return await metric(server.url, f'voicebot_limit_reached_total{{limit="{limit}"}}')


# --------------------------------------------------------------------------------------- head of a request


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize(
    ("value", "limit"),
    [
        ("x" + " " * 60_000 + "x", "headers"),
        ("x" + " " * 15_000 + "x", "condition_header"),
        ('"1",' * 50 + '"2"', "condition_header"),
    ],
)
async def test_a_condition_header_of_60000_spaces_is_refused(
    server: RunningServer, tenant: Tenant, header: str, value: str, limit: str
) -> None:
    """A longer If-Match or If-None-Match than 200 characters is answered 431 without being matched."""
    number = await tenant.number()
    before = await reached(server, limit)
    with cheap():
        method = "PATCH" if header == "If-Match" else "GET"
        body = b"{}" if header == "If-Match" else None
        headers = {header: value, "Content-Type": "application/json"}
        answer = await tenant.owner.request(method, f"/numbers/{number['id']}", headers=headers, content=body)
    assert refusal(answer) == (431, "headers_too_large")
    assert await reached(server, limit) == before + 1


async def test_a_condition_header_lists_several_tags(tenant: Tenant) -> None:
    """Up to 200 characters, tags are separated by commas; weak and malformed ones do not match If-Match."""
    number = await tenant.number()
    path = f"/numbers/{number['id']}"
    for tags, status in (('"7" , W/"1"', 304), ('"7"', 200), ("*", 304)):
        assert (await tenant.owner.get(path, headers={"If-None-Match": tags})).status_code == status, tags
    for tags, status in (('"7" , W/"1"', 412), ('"7 1"', 412), ('1, "', 412), ('"7", "1" ,', 200)):
        answer = await tenant.owner.patch(path, json={}, headers={"If-Match": tags})
        assert answer.status_code == status, tags


async def test_too_many_headers_and_a_long_target_are_refused(server: RunningServer) -> None:
    """More than 100 headers are answered 431, a path and query of more than 8 KiB 414, without a key."""
    async with http_client(base_url=server.url) as anybody:
        headers = {f"X-{number}": "x" for number in range(LIMITS.headers + 1)}
        assert refusal(await anybody.get("/healthz", headers=headers)) == (431, "headers_too_large")
        target = f"/healthz?{'x' * LIMITS.target_bytes}"
        assert refusal(await anybody.get(target)) == (414, "uri_too_long")


# -------------------------------------------------------------------------------------- webhooks of carriers


@pytest.mark.parametrize(
    ("form", "limit"),
    [
        (urlencode({f"F{number}": "x" for number in range(6_000)}).encode(), "webhook_fields"),
        (b"x" * (LIMITS.webhook_body_bytes + 1), "webhook_body"),
        (b"Field=x&" * (2 * 1024 * 1024 // 8), "webhook_body"),
    ],
)
async def test_an_unsigned_48_kb_form_does_not_block_the_process(
    server: RunningServer, form: bytes, limit: str
) -> None:
    """A webhook of more than 200 fields or 64 KiB is answered 413, before its signature is computed."""
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": "x"}
    before = await reached(server, limit)
    async with http_client() as stranger:
        with cheap():
            url = f"{server.url}/webhooks/twilio/voice"
            answer = await stranger.post(url, content=form, headers=headers)
    assert refusal(answer) == (413, "payload_too_large")
    assert await reached(server, limit) == before + 1


async def test_a_signed_webhook_of_200_fields_is_handled(server: RunningServer) -> None:
    """The highest number of fields is verified and parsed."""
    form = {"CallSid": "CA1", "CallStatus": "ringing"}
    form |= {f"Field{number}": "x" for number in range(LIMITS.webhook_fields - len(form))}
    headers = signed(f"{PUBLIC_URL}/webhooks/twilio/status", form)
    async with http_client() as carrier:
        answer = await carrier.post(f"{server.url}/webhooks/twilio/status", data=form, headers=headers)
    assert answer.status_code == 204


async def test_a_5000_digit_call_duration_is_no_error(server: RunningServer) -> None:
    """A signed status whose duration cannot be a number is handled like one without a duration."""
    form = {"CallSid": "CA1", "CallStatus": "completed", "CallDuration": "9" * 5_000}
    headers = signed(f"{PUBLIC_URL}/webhooks/twilio/status", form)
    async with http_client() as carrier:
        answer = await carrier.post(f"{server.url}/webhooks/twilio/status", data=form, headers=headers)
    assert answer.status_code == 204


# ------------------------------------------------------------------------------------------ bodies of the API


@pytest.mark.parametrize("key", [None, "vb_wrong"])
async def test_a_body_is_not_read_before_the_key(server: RunningServer, key: str | None) -> None:
    """A request without a valid key is answered 401 while the server has not received its body."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    authorization = "" if key is None else f"Authorization: Bearer {key}\r\n"
    writer.write(
        f"POST /api/v1/templates HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{authorization}"
        f"Content-Length: {LIMITS.document_bytes}\r\n\r\n".encode()
    )
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 ")
    writer.close()


@pytest.mark.parametrize(
    ("path", "document", "limit"),
    [
        ("/templates/check", {"name": "x" * LIMITS.document_bytes}, "body"),
        ("/templates/check", json.loads("[" * 65 + "]" * 65), "json_depth"),
        ("/templates/check", [0] * LIMITS.document_values, "json_values"),
        (CHAT, {"turns": [], "answers": [0] * LIMITS.chat_values}, "json_values"),
        ("/leads", {"phone": "x" * LIMITS.body_bytes}, "body"),
        ("/leads", {"payload": json.loads("[" * 64 + "]" * 64)}, "json_depth"),
        ("/leads", {"payload": [0] * LIMITS.json_values}, "json_values"),
    ],
    ids=["body", "depth", "values", "values of a chat", "small body", "depth of a small one", "its values"],
)
async def test_a_body_beyond_a_limit_is_refused(
    server: RunningServer, tenant: Tenant, path: str, document: object, limit: str
) -> None:
    """More bytes, levels or values than the route takes are answered 413 before the body is parsed."""
    before = await reached(server, limit)
    with cheap():
        answer = await tenant.owner.post(path, json=document)
    assert refusal(answer) == (413, "payload_too_large")
    assert await reached(server, limit) == before + 1


async def test_the_largest_body_of_a_template_is_not_parsed_on_the_event_loop(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template is parsed in the process for checks: the event loop's process parses no such JSON."""
    body = json.dumps({"name": "x", "body": [0] * (LIMITS.document_values - 10)}).encode()
    parsed = list[int]()
    loads = json.loads

    def counted(text: str | bytes, *args: Any, **named: Any) -> Any:
        parsed.append(len(text))
        return loads(text, *args, **named)

    monkeypatch.setattr(json, "loads", counted)
    answer = await tenant.owner.post(
        "/templates/check", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.json()["errors"][0]["code"] == "too_large"
    assert all(length < len(body) for length in parsed)


async def test_a_body_of_64_levels_is_read(tenant: Tenant) -> None:
    """The deepest body is parsed; brackets in strings are no levels."""
    deep = json.dumps({"name": "[{" * 500 + '\\"', "variables": json.loads("[" * 63 + "]" * 63)})
    headers = {"Content-Type": "application/json"}
    answer = await tenant.owner.post("/templates/check", content=deep, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["ok"] is False


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-le"])
async def test_a_body_that_is_not_utf_8_is_no_json(tenant: Tenant, encoding: str) -> None:
    """RFC 8259 allows UTF-8 only; another encoding is answered 400."""
    content, headers = '{"name": "x"}'.encode(encoding), {"Content-Type": "application/json"}
    answer = await tenant.owner.post("/templates/check", content=content, headers=headers)
    assert refusal(answer) == (400, "invalid_json")


# ---------------------------------------------------------------------------------------------- odd values


@pytest.mark.parametrize(
    "until", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1969-12-31T23:59:59Z"]
)
async def test_presence_in_year_1_is_refused(tenant: Tenant, until: str) -> None:
    """A moment at either end of the calendar is answered 422 with its pointer."""
    user = (await tenant.owner.post("/users", json={"name": "Ada", "email": "ada@acme.example"})).json()
    made = (await tenant.owner.post("/keys", json={"role": "operator", "user_id": user["id"]})).json()
    async with client(str(tenant.owner.base_url).removesuffix("/api/v1/"), made["key"]) as operator:
        answer = await operator.put("/operators/me/presence", json={"status": "away", "until": until})
    assert refusal(answer) == (422, "invalid_request")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/until"]


@pytest.mark.parametrize("token", ["\ud800", "\0", "x\udfff"])
async def test_a_surrogate_in_a_token_is_refused(server: RunningServer, token: str) -> None:
    """A start message with a token that cannot be encoded is malformed."""
    async with connect(f"{server.url.replace('http', 'ws', 1)}/media/twilio") as socket:
        for _ in range(10):
            await socket.send(json.dumps(start_message("CA1", token)))
        assert await close_code(socket) == 1007


# --------------------------------------------------------------------------------------------- operations


async def test_metrics_need_the_token_if_there_is_one(server: RunningServer) -> None:
    """With VOICEBOT_METRICS_TOKEN, /metrics is answered to its bearer only; /openapi.json stays open."""
    settings = server.app_state.settings.replace({"VOICEBOT_METRICS_TOKEN": "of the scraper"})
    async with serving(settings) as other, http_client(base_url=other.url) as scraper:
        for authorization in (b"", b"Bearer wrong", "Bearer öä".encode()):
            answer = await scraper.get("/metrics", headers={b"Authorization": authorization})
            assert refusal(answer) == (401, "unauthorized")
        allowed = await scraper.get("/metrics", headers={"Authorization": "Bearer of the scraper"})
        assert allowed.status_code == 200
        assert (await scraper.get("/openapi.json")).status_code == 200


async def test_without_a_token_metrics_are_for_this_machine(server: RunningServer) -> None:
    """Without the setting, a client on this machine reads /metrics, and one behind a proxy does not."""
    async with http_client(base_url=server.url) as anybody:
        assert (await anybody.get("/metrics")).status_code == 200
        forwarded = {"X-Forwarded-For": "203.0.113.9"}
        assert refusal(await anybody.get("/metrics", headers=forwarded)) == (401, "unauthorized")
