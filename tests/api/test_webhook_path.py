"""The short path of carriers' webhooks: what it takes, and how it answers what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from db.errors import DatabaseBusy
from tests.api.server_fixture import RunningServer, http_client, metric, new_e164
from tests.api.twilio import Twilio


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("GET", "twilio/status", 405, "method_not_allowed", "POST"),
        ("PUT", "exotel/secret/status", 405, "method_not_allowed", "GET, POST"),
        ("POST", "twilio/nothing", 404, "not_found", None),
        ("POST", "acme/status", 404, "not_found", None),
        ("POST", "twilio", 404, "not_found", None),
        ("POST", "twilio/status/", 404, "not_found", None),
        ("POST", "twilio/a/b/status", 404, "not_found", None),
    ],
)
async def test_other_requests_are_problems(
    server: RunningServer, method: str, path: str, status: int, code: str, allow: str | None
) -> None:
    """Another method, an unknown carrier or webhook, and another path are answered as everywhere else."""
    async with http_client(base_url=server.url) as stranger:
        answer = await stranger.request(method, f"/webhooks/{path}")
    assert (answer.status_code, answer.json()["code"], answer.headers.get("Allow")) == (status, code, allow)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(DatabaseBusy("deadlock"), 503, "database_busy"), (RuntimeError("a defect"), 500, "internal_error")],
)
async def test_a_webhook_that_fails_is_a_problem(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
) -> None:
    """The carrier is told whether to repeat it, without the details of a defect; no answer is counted."""

    async def failing(*_: Any) -> None:
        raise error

    monkeypatch.setattr(server.app_state.status_writer, "store", failing)
    name = f'voicebot_webhook_seconds_count{{carrier="twilio",status="{status}",webhook="status"}}'
    before = await metric(server.url, name)
    reply = await Twilio(server, new_e164()).post("status")
    assert (reply.response.status_code, reply.response.json()["code"]) == (status, code)
    assert "defect" not in reply.response.text
    assert await metric(server.url, name) == before
