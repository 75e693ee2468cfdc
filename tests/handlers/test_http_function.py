"""An HTTP function on a call: its schema, its results, and its wait text."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from handlers.http import HttpRequest, HttpResponse
from handlers.http.function import REPEAT_NOTE, HttpFunctions
from tests.handlers.http_harness import (
    RecordingCall,
    ServerAnswer,
    functions,
    http_function,
    parameters,
    running_server,
    until,
    variable,
)

ORDER = parameters("order", order="integer", note="string")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Everything that is logged, by us at any level and by libraries."""
    lines: list[str] = []
    sink = logger.add(lines.append, level=0, format="{message} {exception}")
    with caplog.at_level(logging.DEBUG):
        yield lines
    logger.remove(sink)
    lines.append(caplog.text)


async def test_function_has_the_declared_schema() -> None:
    """The model receives the declared name, description and parameters."""
    async with functions() as http:
        function = http.bind(
            http_function(name="find_order", parameters=ORDER, timeout_ms=8000), [], RecordingCall()
        )
    assert (function.name, function.description, function.required) == ("find_order", "Asks.", ("order",))
    assert function.properties == ORDER["properties"]
    assert function.cancel_on_interruption
    assert function.timeout_secs is not None
    assert function.timeout_secs > 8


async def test_unsafe_function_describes_repetition() -> None:
    """The description of an unsafe function says how to get the result after an interruption."""
    async with functions() as http:
        assert (
            http.bind(http_function(method="POST"), [], RecordingCall()).description
            == f"Asks.\n{REPEAT_NOTE}"
        )


async def test_answer_is_returned_and_stored() -> None:
    """The answer is returned to the model, and its parts are stored in variables with their types."""
    body = json.dumps({"status": "shipped", "eta": {"days": "3"}}).encode()
    call = RecordingCall(customer="Ü 1")
    async with running_server(ServerAnswer(body=body)) as server, functions(server) as http:
        declaration = http_function(
            url=f"{server.url}/{{{{ customer }}}}/{{{{ order }}}}",
            parameters=ORDER,
            keep={"days": "/eta/days", "nothing": "/x"},
        )
        variables = [variable("days", "integer"), variable("nothing")]
        result = await http.bind(declaration, variables, call).run({"order": 7})
    assert result.result == {"status": "shipped", "eta": {"days": "3"}}
    assert (result.failed, result.respond) == (False, True)
    assert call.kept == {"days": 3}
    assert server.seen[0].target == "/%C3%9C%201/7"
    assert call.said == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "'order' is a required property"),
        ({"order": "seven"}, "order: 'seven' is not of type 'integer'"),
        ({"order": 7, "admin": True}, "'admin' was unexpected"),
        ({"order": "x" * 5000}, "order: does not match 'type'"),
    ],
)
async def test_invalid_arguments_are_refused(arguments: dict[str, Any], says: str) -> None:
    """Invalid arguments are refused with a message, and nothing is sent."""
    async with running_server() as server, functions(server) as http:
        result = await http.bind(http_function(url=server.url, parameters=ORDER), [], RecordingCall()).run(
            arguments
        )
        assert server.connections == 0
    assert result.failed
    assert result.result["code"] == "invalid_arguments"
    assert says in result.result["message"]
    assert len(result.result["message"]) < 500


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}},
        {"type": "object", "properties": {"a": {"type": "no such type"}}},
    ],
)
async def test_invalid_schema_fails_the_function(schema: dict[str, Any]) -> None:
    """An invalid schema in a draft makes the function fail."""
    async with functions() as http:
        result = await http.bind(http_function(parameters=schema), [], RecordingCall()).run({"a": 1})
    assert (result.failed, result.result["code"]) == (True, "misdeclared")


async def test_remote_references_are_not_followed(tmp_path: Path) -> None:
    """A reference of a schema to another document, such as a file, is not followed."""
    elsewhere = tmp_path / "schema.json"
    elsewhere.write_text('{"type": "integer"}')
    schema = {"type": "object", "properties": {"a": {"$ref": elsewhere.as_uri()}}}
    async with functions() as http:
        result = await http.bind(http_function(parameters=schema), [], RecordingCall()).run({"a": 1})
    assert result.result["code"] == "misdeclared"


async def test_wait_text_is_spoken_for_a_slow_answer() -> None:
    """The wait text is spoken once if there is no answer after 0.6 s."""
    call, may_answer = RecordingCall(), asyncio.Event()
    async with running_server(ServerAnswer(may_answer=may_answer)) as server, functions(server) as http:
        declaration = http_function(
            url=server.url, wait_text="One moment, {{ name }}.", parameters=parameters(name="string")
        )
        began = time.monotonic()
        running = asyncio.ensure_future(http.bind(declaration, [], call).run({"name": "Ann"}))
        await until(lambda: call.said)
        assert time.monotonic() - began >= 0.6
        may_answer.set()
        assert not (await running).failed
    assert call.said == ["One moment, Ann."]


async def test_wait_text_is_not_spoken_for_a_fast_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait text is not spoken if the answer is fast."""
    monkeypatch.setattr("handlers.http.function.WAIT_TEXT_AFTER_S", 20.0)
    call = RecordingCall()
    async with running_server(ServerAnswer(after_s=0.1)) as server, functions(server) as http:
        await http.bind(http_function(url=server.url, wait_text="One moment."), [], call).run({})
    assert call.said == []


@pytest.mark.parametrize(
    ("answer", "code", "retryable"),
    [
        (ServerAnswer(status=404, body=b'{"error": "BODY"}'), "http_404", False),
        (ServerAnswer(status=500, body=b"BODY"), "http_500", False),
        (ServerAnswer(body=b"<BODY"), "unreadable_answer", False),
        (ServerAnswer(drop=True), "unreachable", True),
        (ServerAnswer(after_s=9), "timeout", True),
    ],
)
async def test_failures_are_reported_without_secrets(
    answer: ServerAnswer, code: str, retryable: bool, log: list[str]
) -> None:
    """The model gets the code and whether to retry; secrets and bodies are neither returned nor logged."""
    call = RecordingCall(mail="PRIVATE")
    async with running_server(answer) as server, functions(server, sealed="SECRET") as http:
        declaration = http_function(
            url=f"{server.url}/PATH/{{{{ mail }}}}",
            secret_headers={"Authorization": "sealed"},
            timeout_ms=400 if code == "timeout" else 20_000,
            retries=0,
            keep={"x": ""},
        )
        result = await http.bind(declaration, [variable("x")], call).run({})
        assert server.seen[0].headers["authorization"] == "SECRET"
    assert result.failed
    assert result.result["status"] == "failed"
    assert (result.result["code"], result.result["retryable"]) == (code, retryable)
    assert call.kept == {}
    to_result = json.dumps(result.result) + "".join(log)
    assert not any(word in to_result for word in ("SECRET", "BODY", "PRIVATE", "PATH", "sealed"))
    assert code in "".join(log)


async def test_secret_in_a_redirect_is_not_returned() -> None:
    """A secret in the location of a redirect does not reach the model."""
    leak = ServerAnswer(status=302, headers={"Location": "ftp://x/SECRET"})
    async with running_server(leak) as server, functions(server, sealed="SECRET") as http:
        declaration = http_function(url=server.url, secret_headers={"Authorization": "sealed"})
        result = await http.bind(declaration, [], RecordingCall()).run({})
    assert result.result["code"] == "redirect_refused"
    assert "SECRET" not in json.dumps(result.result)


async def test_refused_address_is_not_named() -> None:
    """The message for a refused address does not contain the address."""
    async with running_server() as server, functions() as http:
        result = await http.bind(http_function(url=server.url), [], RecordingCall()).run({})
        assert server.connections == 0
    assert result.result["code"] == "address_refused"
    assert "127" not in json.dumps(result.result)


async def test_undecryptable_secret_fails_the_function(log: list[str]) -> None:
    """A secret encrypted with another key makes the function fail, and nothing is sent."""
    async with running_server() as server, functions(server) as http:
        declaration = http_function(url=server.url, secret_headers={"Authorization": "sealed"})
        result = await http.bind(declaration, [], RecordingCall()).run({})
        assert server.connections == 0
    assert result.result["code"] == "misdeclared"
    assert "sealed" not in "".join(log)


async def test_unexpected_exception_is_reported(log: list[str]) -> None:
    """An unexpected exception becomes a result for the model, and the log contains only its type."""

    async def broken(_request: HttpRequest) -> HttpResponse:
        raise RuntimeError("PRIVATE")

    result = await HttpFunctions(broken, str).bind(http_function(), [], RecordingCall()).run({})
    assert (result.failed, result.result["code"]) == (True, "internal_error")
    assert "RuntimeError" in "".join(log)
    assert "PRIVATE" not in "".join(log)


async def test_failure_to_store_does_not_fail_the_function() -> None:
    """A failure to store variables, for example after the call's end, does not change the result."""

    class Over(RecordingCall):
        async def keep(self, values: Any) -> None:
            raise RuntimeError("over")

    async with running_server() as server, functions(server) as http:
        bound = http.bind(http_function(url=server.url, keep={"x": ""}), [variable("x", "object")], Over())
        assert (await bound.run({})).result == {"status": "done"}


async def interrupted(running: asyncio.Future[Any], true: Callable[[], object]) -> None:
    """The caller speaks once a condition is true: pipecat cancels the function's task."""
    await until(true)
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()


@pytest.mark.parametrize("after_wait_text", [False, True])
@pytest.mark.parametrize("answered", [False, True])
async def test_interrupted_request_completes_once(
    after_wait_text: bool, answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted POST is sent once and completes; a repeated call gets its result."""
    monkeypatch.setattr("handlers.http.function.WAIT_TEXT_AFTER_S", 0.0 if after_wait_text else 20.0)
    call, may_answer = RecordingCall(), asyncio.Event()
    async with (
        running_server(ServerAnswer(may_answer=may_answer, body=b'{"id": "A1"}')) as server,
        functions(server) as http,
    ):
        declaration = http_function(
            url=server.url, method="POST", parameters=ORDER, keep={"id": "/id"}, wait_text="One moment."
        )
        bound = http.bind(declaration, [variable("id")], call)
        running = asyncio.ensure_future(bound.run({"order": 7}))
        await interrupted(running, lambda: server.seen and bool(call.said) is after_wait_text)
        if answered:
            may_answer.set()
            await until(lambda: call.kept)
        again = asyncio.ensure_future(bound.run({"order": 7}))
        await asyncio.sleep(0)
        assert call.kept == ({"id": "A1"} if answered else {})
        may_answer.set()
        assert (await again).result == {"id": "A1"}
        assert call.kept == {"id": "A1"}
        assert len(server.seen) == 1
        await bound.run({"order": 7})
        assert len(server.seen) == 2


async def test_different_request_is_sent() -> None:
    """Only an equal request gets the result of a running one."""
    async with running_server(ServerAnswer(after_s=0.3)) as server, functions(server) as http:
        bound = http.bind(http_function(url=server.url, method="POST", parameters=ORDER), [], RecordingCall())
        await asyncio.gather(bound.run({"order": 7}), bound.run({"order": 8}), bound.run({"order": 7}))
        other = http.bind(http_function(url=server.url, method="POST", parameters=ORDER), [], RecordingCall())
        await asyncio.gather(bound.run({"order": 7}), other.run({"order": 7}))
    assert sorted(json.loads(seen.body)["order"] for seen in server.seen) == [7, 7, 7, 8]


async def test_wait_text_is_not_spoken_after_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted function does not speak its wait text."""
    monkeypatch.setattr("handlers.http.function.WAIT_TEXT_AFTER_S", 20.0)
    call, may_answer = RecordingCall(), asyncio.Event()
    async with running_server(ServerAnswer(may_answer=may_answer)) as server, functions(server) as http:
        bound = http.bind(http_function(url=server.url, wait_text="One moment."), [], call)
        await interrupted(asyncio.ensure_future(bound.run({})), lambda: server.seen)
        may_answer.set()
        await http.close(wait_s=20.0)
    assert call.said == []


async def test_result_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the retention time the same request is sent again."""
    monkeypatch.setattr("handlers.http.function.RESULT_KEPT_S", 0.0)
    call, may_answer = RecordingCall(), asyncio.Event()
    answer = ServerAnswer(may_answer=may_answer, body=b'{"id": "A1"}')
    async with running_server(answer) as server, functions(server) as http:
        declaration = http_function(url=server.url, method="POST", keep={"id": "/id"})
        bound = http.bind(declaration, [variable("id")], call)
        await interrupted(asyncio.ensure_future(bound.run({})), lambda: server.seen)
        may_answer.set()
        await until(lambda: call.kept)
        # The first request may still be ending: a call that joins it gets its result.
        async with asyncio.timeout(30):
            while len(server.seen) < 2:
                await bound.run({})
    assert len(server.seen) == 2


async def test_close_waits_for_running_requests() -> None:
    """Closing waits for running requests, up to a limit."""
    call, may_answer = RecordingCall(), asyncio.Event()
    async with (
        running_server(ServerAnswer(may_answer=may_answer, body=b'{"id": "A1"}')) as server,
        functions(server) as http,
    ):
        declaration = http_function(url=server.url, method="POST", keep={"id": "/id"})
        bound = http.bind(declaration, [variable("id")], call)
        await interrupted(asyncio.ensure_future(bound.run({})), lambda: server.seen)
        closing = asyncio.ensure_future(http.close(wait_s=20.0))
        await asyncio.sleep(0)
        assert not closing.done()
        may_answer.set()
        await closing
        assert call.kept == {"id": "A1"}
    async with running_server(ServerAnswer(after_s=60)) as server, functions(server) as http:
        bound = http.bind(http_function(url=server.url, timeout_ms=30_000), [], call)
        await interrupted(asyncio.ensure_future(bound.run({})), lambda: server.seen)
        async with asyncio.timeout(20):
            await http.close(wait_s=0.1)


async def test_send_can_be_replaced() -> None:
    """Any function that answers a request can replace the HTTP client."""

    async def prepared(request: HttpRequest) -> HttpResponse:
        return HttpResponse(status=200, content_type="text/plain", body=request.target.encode())

    function = HttpFunctions(prepared, str).bind(http_function(parameters=ORDER), [], RecordingCall())
    assert (await function.run({"order": 7})).result == {"answer": "/?order=7"}
