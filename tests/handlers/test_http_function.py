"""An HTTP function on a call: what the model is offered and told, and what the caller hears meanwhile."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from handlers.http import HttpFunctions, HttpRequest, HttpResponse
from handlers.http.function import REPEAT_NOTE
from tests.handlers.http_harness import (
    RecordingCall,
    ServerAnswer,
    functions,
    http_function,
    parameters,
    running_server,
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


async def test_what_the_model_is_offered() -> None:
    """The model sees the declared name, words and parameters."""
    async with functions() as http:
        function = http.bind(
            http_function(name="find_order", parameters=ORDER, timeout_ms=8000), [], RecordingCall()
        )
    assert (function.name, function.description, function.required) == ("find_order", "Asks.", ("order",))
    assert function.properties == ORDER["properties"]
    assert function.cancel_on_interruption
    assert function.timeout_secs is not None
    assert function.timeout_secs > 8


async def test_a_changing_function_says_that_it_is_not_done_twice() -> None:
    """What changes something tells the model how to learn the outcome after an interruption."""
    async with functions() as http:
        assert (
            http.bind(http_function(method="POST"), [], RecordingCall()).description
            == f"Asks.\n{REPEAT_NOTE}"
        )


async def test_answer_and_variables() -> None:
    """The answer goes to the model, and parts of it into variables in their types."""
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
async def test_arguments_that_do_not_fit(arguments: dict[str, Any], says: str) -> None:
    """Nothing is sent for arguments that do not fit; the model is told which, and may call again."""
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
async def test_parameters_that_are_no_schema(schema: dict[str, Any]) -> None:
    """A draft's broken schema fails the function."""
    async with functions() as http:
        result = await http.bind(http_function(parameters=schema), [], RecordingCall()).run({"a": 1})
    assert (result.failed, result.result["code"]) == (True, "misdeclared")


async def test_parameters_that_refer_elsewhere(tmp_path: Path) -> None:
    """A schema's reference to another document is not followed, be it a file of ours."""
    elsewhere = tmp_path / "schema.json"
    elsewhere.write_text('{"type": "integer"}')
    schema = {"type": "object", "properties": {"a": {"$ref": elsewhere.as_uri()}}}
    async with functions() as http:
        result = await http.bind(http_function(parameters=schema), [], RecordingCall()).run({"a": 1})
    assert result.result["code"] == "misdeclared"


async def test_wait_text_when_it_takes_long() -> None:
    """The caller hears the waiting text once when the answer takes more than a moment."""
    call = RecordingCall()
    async with running_server(ServerAnswer(after_s=0.9)) as server, functions(server) as http:
        declaration = http_function(
            url=server.url, wait_text="One moment, {{ name }}.", parameters=parameters(name="string")
        )
        running = asyncio.create_task(http.bind(declaration, [], call).run({"name": "Ann"}))
        await asyncio.sleep(0.3)
        assert call.said == []
        assert not (await running).failed
    assert call.said == ["One moment, Ann."]


async def test_no_wait_text_when_it_is_quick() -> None:
    """A quick answer needs no filler."""
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
async def test_failures(answer: ServerAnswer, code: str, retryable: bool, log: list[str]) -> None:
    """The model is told what failed and whether to try again; secrets and bodies are told to nobody."""
    call = RecordingCall(mail="PRIVATE")
    async with running_server(answer) as server, functions(server, sealed="SECRET") as http:
        declaration = http_function(
            url=f"{server.url}/PATH/{{{{ mail }}}}",
            secret_headers={"Authorization": "sealed"},
            timeout_ms=400,
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


async def test_secrets_that_come_back() -> None:
    """A redirect's target that carries a secret header's value does not reach the model."""
    leak = ServerAnswer(status=302, headers={"Location": "ftp://x/SECRET"})
    async with running_server(leak) as server, functions(server, sealed="SECRET") as http:
        declaration = http_function(url=server.url, secret_headers={"Authorization": "sealed"})
        result = await http.bind(declaration, [], RecordingCall()).run({})
    assert result.result["code"] == "redirect_refused"
    assert "SECRET" not in json.dumps(result.result)


async def test_a_refused_address() -> None:
    """An address inside the network is refused in words that do not name it."""
    async with running_server() as server, functions() as http:
        result = await http.bind(http_function(url=server.url), [], RecordingCall()).run({})
        assert server.connections == 0
    assert result.result["code"] == "address_refused"
    assert "127" not in json.dumps(result.result)


async def test_a_secret_that_cannot_be_read(log: list[str]) -> None:
    """A secret sealed with another key fails the function and nothing is sent."""
    async with running_server() as server, functions(server) as http:
        declaration = http_function(url=server.url, secret_headers={"Authorization": "sealed"})
        result = await http.bind(declaration, [], RecordingCall()).run({})
        assert server.connections == 0
    assert result.result["code"] == "misdeclared"
    assert "sealed" not in "".join(log)


async def test_it_never_raises(log: list[str]) -> None:
    """A defect behind the function is an answer for the model, and the log has its type alone."""

    async def broken(request: HttpRequest) -> HttpResponse:
        raise RuntimeError("PRIVATE")

    result = await HttpFunctions(broken, str).bind(http_function(), [], RecordingCall()).run({})
    assert (result.failed, result.result["code"]) == (True, "internal_error")
    assert "RuntimeError" in "".join(log)
    assert "PRIVATE" not in "".join(log)


async def test_a_call_that_can_keep_nothing() -> None:
    """What was done stays done when the call is over by the time of the answer."""

    class Over(RecordingCall):
        def keep(self, values: Any) -> None:
            raise RuntimeError("over")

    async with running_server() as server, functions(server) as http:
        bound = http.bind(http_function(url=server.url, keep={"x": ""}), [variable("x", "object")], Over())
        assert (await bound.run({})).result == {"status": "done"}


async def interrupted(running: asyncio.Task[Any], after_s: float) -> None:
    """The caller speaks: pipecat cancels the function's task."""
    await asyncio.sleep(after_s)
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()


@pytest.mark.parametrize("interrupted_after_s", [0.2, 0.8])
@pytest.mark.parametrize("again_after_s", [0.0, 1.2])
async def test_an_interruption_cuts_nothing_in_half(interrupted_after_s: float, again_after_s: float) -> None:
    """An interrupted POST arrives once and completes; called again, the model gets its answer."""
    call = RecordingCall()
    async with (
        running_server(ServerAnswer(after_s=1.2, body=b'{"id": "A1"}')) as server,
        functions(server) as http,
    ):
        declaration = http_function(url=server.url, method="POST", parameters=ORDER, keep={"id": "/id"})
        bound = http.bind(declaration, [variable("id")], call)
        await interrupted(asyncio.create_task(bound.run({"order": 7})), interrupted_after_s)
        await asyncio.sleep(again_after_s)
        assert call.kept == ({"id": "A1"} if again_after_s else {})
        assert (await bound.run({"order": 7})).result == {"id": "A1"}
        assert call.kept == {"id": "A1"}
        assert len(server.seen) == 1
        await bound.run({"order": 7})
        assert len(server.seen) == 2


async def test_another_request_does_not_join() -> None:
    """Only the very same request joins one under way."""
    async with running_server(ServerAnswer(after_s=0.3)) as server, functions(server) as http:
        bound = http.bind(http_function(url=server.url, method="POST", parameters=ORDER), [], RecordingCall())
        await asyncio.gather(bound.run({"order": 7}), bound.run({"order": 8}), bound.run({"order": 7}))
        other = http.bind(http_function(url=server.url, method="POST", parameters=ORDER), [], RecordingCall())
        await asyncio.gather(bound.run({"order": 7}), other.run({"order": 7}))
    assert sorted(json.loads(seen.body)["order"] for seen in server.seen) == [7, 7, 7, 8]


async def test_no_filler_after_an_interruption() -> None:
    """An interrupted function says nothing any more."""
    call = RecordingCall()
    async with running_server(ServerAnswer(after_s=1)) as server, functions(server) as http:
        bound = http.bind(http_function(url=server.url, wait_text="One moment."), [], call)
        await interrupted(asyncio.create_task(bound.run({})), 0.2)
        await asyncio.sleep(0.7)
    assert call.said == []


async def test_an_answer_nobody_asked_for_again_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the same request is a new wish."""
    monkeypatch.setattr("handlers.http.function.RESULT_KEPT_S", 0.1)
    async with running_server(ServerAnswer(after_s=0.2)) as server, functions(server) as http:
        bound = http.bind(http_function(url=server.url, method="POST"), [], RecordingCall())
        await interrupted(asyncio.create_task(bound.run({})), 0.1)
        await asyncio.sleep(0.4)
        await bound.run({})
    assert len(server.seen) == 2


async def test_closing_lets_what_is_under_way_finish() -> None:
    """The process waits for requests that have left, for a while."""
    call = RecordingCall()
    async with (
        running_server(ServerAnswer(after_s=0.4, body=b'{"id": "A1"}')) as server,
        functions(server) as http,
    ):
        declaration = http_function(url=server.url, method="POST", keep={"id": "/id"})
        await interrupted(asyncio.create_task(http.bind(declaration, [variable("id")], call).run({})), 0.2)
        await http.close()
        assert call.kept == {"id": "A1"}
    async with running_server(ServerAnswer(after_s=30)) as server, functions(server) as http:
        await interrupted(
            asyncio.create_task(http.bind(http_function(url=server.url), [], call).run({})), 0.2
        )
        began = time.monotonic()
        await http.close(wait_s=0.1)
        assert time.monotonic() - began < 2


async def test_answers_from_elsewhere() -> None:
    """Anything that answers a request can stand in for the network, e.g. a file of prepared answers."""

    async def prepared(request: HttpRequest) -> HttpResponse:
        return HttpResponse(status=200, content_type="text/plain", body=request.target.encode())

    function = HttpFunctions(prepared, str).bind(http_function(parameters=ORDER), [], RecordingCall())
    assert (await function.run({"order": 7})).result == {"answer": "/?order=7"}
