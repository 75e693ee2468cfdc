from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.api.server_fixture import (
    RunningServer,
    Tenant,
    agent_document,
    client,
    http_client,
    new_e164,
    serving,
)
from voicebot.api.limits import DEFAULT_LIMITS
from voicebot.api.problems import KINDS
from voicebot.authoring import Authoring

Scene = Callable[[RunningServer, Tenant], Awaitable[httpx.Response]]


async def missing_key(server: RunningServer, _: Tenant) -> httpx.Response:
    async with client(server.url, None) as nobody:
        return await nobody.get("/templates")


async def unknown_path(_: RunningServer, tenant: Tenant) -> httpx.Response:
    return await tenant.owner.get("/nothing")


async def id_of_nothing(_: RunningServer, tenant: Tenant) -> httpx.Response:
    return await tenant.owner.get("/calls/01a1fb64-16ef-7341-baef-1bff17f7b0e5")


async def id_that_is_none(_: RunningServer, tenant: Tenant) -> httpx.Response:
    return await tenant.owner.get("/calls/one/transcript")


async def wrong_role(_: RunningServer, tenant: Tenant) -> httpx.Response:
    return await tenant.clients["viewer"].post("/templates", json={"name": "x"})


async def wrong_method(_: RunningServer, tenant: Tenant) -> httpx.Response:
    return await tenant.owner.put("/templates", json={})


async def broken_json(_: RunningServer, tenant: Tenant) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    return await tenant.owner.post("/templates", content=b'{"name": ', headers=headers)


async def broken_number(_: RunningServer, tenant: Tenant) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    return await tenant.owner.post("/numbers", content=b'{\n  "e164": "+1,\n}', headers=headers)


async def nul_in_a_label(_: RunningServer, tenant: Tenant) -> httpx.Response:
    return await tenant.owner.post("/numbers", json={"e164": new_e164(), "label": "main\0line"})


async def unquoted_if_match(_: RunningServer, tenant: Tenant) -> httpx.Response:
    agent = await tenant.agent()
    return await tenant.owner.delete(f"/templates/{agent['id']}", headers={"If-Match": "1"})


async def name_with_spaces_around_it(_: RunningServer, tenant: Tenant) -> httpx.Response:
    agent = await tenant.agent()
    return await tenant.owner.post("/templates", json={"name": f" {agent['name']} "})


async def no_json(_: RunningServer, tenant: Tenant) -> httpx.Response:
    return await tenant.owner.post("/templates", content=b"name: x", headers={"Content-Type": "text/yaml"})


async def too_large(_: RunningServer, tenant: Tenant) -> httpx.Response:
    return await tenant.owner.post("/templates", json={"name": "x" * DEFAULT_LIMITS.document_bytes})


async def too_large_in_chunks(_: RunningServer, tenant: Tenant) -> httpx.Response:
    async def chunks() -> Any:
        for _ in range(3):
            yield b" " * (DEFAULT_LIMITS.document_bytes // 2)

    headers = {"Content-Type": "application/json"}
    return await tenant.owner.post("/templates", content=chunks(), headers=headers)


async def unknown_parameter(_: RunningServer, tenant: Tenant) -> httpx.Response:
    return await tenant.owner.get("/numbers", params={"color": "blue"})


async def limit_out_of_bounds(_: RunningServer, tenant: Tenant) -> httpx.Response:
    return await tenant.owner.get("/leads", params={"limit": "201"})


async def foreign_cursor(_: RunningServer, tenant: Tenant) -> httpx.Response:
    return await tenant.owner.get("/calls", params={"cursor": "!!!"})


async def unknown_member(_: RunningServer, tenant: Tenant) -> httpx.Response:
    return await tenant.owner.post("/numbers", json={"e164": new_e164(), "colour": "blue"})


async def no_number(_: RunningServer, tenant: Tenant) -> httpx.Response:
    return await tenant.owner.post("/numbers", json={"e164": "0415", "time_zone": "Mars/Olympus"})


async def no_if_match(_: RunningServer, tenant: Tenant) -> httpx.Response:
    agent = await tenant.agent()
    return await tenant.owner.delete(f"/templates/{agent['id']}")


async def stale_if_match(_: RunningServer, tenant: Tenant) -> httpx.Response:
    agent = await tenant.agent()
    return await tenant.owner.delete(f"/templates/{agent['id']}", headers={"If-Match": '"9"'})


async def invalid_template(_: RunningServer, tenant: Tenant) -> httpx.Response:
    return await tenant.owner.post("/templates", json={"name": "x", "status": "active"})


async def payload_without_a_value(_: RunningServer, tenant: Tenant) -> httpx.Response:
    agent = await tenant.agent(variables=[{"name": "customer", "required": True}])
    number = await tenant.number()
    lead = {"phone": new_e164(), "number_id": number["id"], "template_id": agent["id"]}
    return await tenant.owner.post("/leads", json=lead)


async def number_taken_twice(_: RunningServer, tenant: Tenant) -> httpx.Response:
    number = await tenant.number()
    return await tenant.owner.post("/numbers", json={"e164": number["e164"]})


async def missing_call(_: RunningServer, tenant: Tenant) -> httpx.Response:
    return await tenant.owner.get("/calls/01a1fb64-16ef-7341-baef-1bff17f7b0e5/events")


async def webhook_of_nobody(server: RunningServer, _: Tenant) -> httpx.Response:
    async with http_client() as carrier:
        return await carrier.post(f"{server.url}/webhooks/acme/voice", data={"To": "+1"})


async def database_away(server: RunningServer, tenant: Tenant) -> httpx.Response:
    async with serving(server.app_state.settings) as other, client(other.url, tenant.keys["owner"]) as owner:
        await other.app_state.database.close()
        return await owner.get("/templates")


SCENES: list[tuple[Scene, int, str, set[str]]] = [
    (missing_key, 401, "unauthorized", set()),
    (unknown_path, 404, "not_found", set()),
    (id_of_nothing, 404, "not_found", set()),
    (id_that_is_none, 404, "not_found", set()),
    (wrong_role, 403, "forbidden", set()),
    (wrong_method, 405, "method_not_allowed", set()),
    (broken_json, 400, "invalid_json", {""}),
    (broken_number, 400, "invalid_json", {""}),
    (nul_in_a_label, 422, "invalid_request", {"/label"}),
    (unquoted_if_match, 412, "precondition_failed", {"/If-Match"}),
    (name_with_spaces_around_it, 409, "name_taken", {"/name"}),
    (no_json, 415, "unsupported_media_type", set()),
    (too_large, 413, "payload_too_large", set()),
    (too_large_in_chunks, 413, "payload_too_large", set()),
    (unknown_parameter, 422, "invalid_request", {"/color"}),
    (limit_out_of_bounds, 422, "invalid_request", {"/limit"}),
    (foreign_cursor, 422, "invalid_request", {"/cursor"}),
    (unknown_member, 422, "invalid_request", {"/colour"}),
    (no_number, 422, "invalid_request", {"/e164", "/time_zone"}),
    (no_if_match, 428, "precondition_required", set()),
    (stale_if_match, 412, "precondition_failed", set()),
    (invalid_template, 422, "invalid_template", {"/prompt"}),
    (payload_without_a_value, 422, "invalid_payload", {"/payload/customer"}),
    (number_taken_twice, 409, "number_taken", {"/e164"}),
    (missing_call, 404, "not_found", set()),
    (webhook_of_nobody, 404, "not_found", set()),
    (database_away, 503, "database_unavailable", set()),
]


@pytest.mark.parametrize(
    ("scene", "status", "code", "pointers"), SCENES, ids=lambda value: getattr(value, "__name__", "")
)
async def test_every_refusal_is_a_problem_document(
    server: RunningServer, tenant: Tenant, scene: Scene, status: int, code: str, pointers: set[str]
) -> None:
    """Every error is a problem of RFC 9457, with a pointer for each invalid field."""
    response = await scene(server, tenant)
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["type"].endswith(code)
    assert problem["title"] == KINDS[code].title
    assert problem["detail"]
    assert problem["retryable"] is (status >= 500)
    assert {error["pointer"] for error in problem["errors"]} == pointers
    assert all(error["message"] and error["remedy"] and error["code"] for error in problem["errors"])


@pytest.mark.parametrize(
    ("scene", "pointer", "message", "remedy"),
    [
        (broken_json, "", "Line 1, column 10", "Correct the JSON"),
        (broken_number, "", "Line 2, column 15", "Correct the JSON"),
        (no_number, "/e164", "E.164", "+14155550100"),
        (no_number, "/time_zone", "'Mars/Olympus' is not a time zone", "as the message says"),
        (nul_in_a_label, "/label", "NUL character", "Remove the character"),
        (unquoted_if_match, "/If-Match", "quotation marks", 'If-Match: "1"'),
        (name_with_spaces_around_it, "/name", "name", "another name"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_refusal_says_what_is_wrong_and_what_to_do(
    server: RunningServer, tenant: Tenant, scene: Scene, pointer: str, message: str, remedy: str
) -> None:
    """Message and remedy name the place, the rule and a valid value; none refers to other documents."""
    problem = (await scene(server, tenant)).json()
    error = next(each for each in problem["errors"] if each["pointer"] == pointer)
    assert message in error["message"]
    assert remedy in error["remedy"]
    assert "/docs" not in error["remedy"]


async def test_errors_have_the_headers_that_their_status_requires(
    server: RunningServer, tenant: Tenant
) -> None:
    """503 carries Retry-After, 405 carries Allow, 401 says how to authenticate."""
    assert (await database_away(server, tenant)).headers["Retry-After"]
    assert "GET" in (await wrong_method(server, tenant)).headers["Allow"]
    assert (await missing_key(server, tenant)).headers["WWW-Authenticate"] == "Bearer"


async def test_an_internal_error_does_not_expose_its_text(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected exception is a 500 without its text, and the server continues."""

    async def broken(*_: Any) -> Any:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr(Authoring, "create", broken)
    response = await tenant.owner.post("/templates", json=agent_document("x"))
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert "42" not in response.text
    assert (await tenant.owner.get("/templates")).status_code == 200
