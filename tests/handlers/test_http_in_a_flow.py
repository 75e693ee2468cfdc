"""HTTP functions in a real pipecat flow: transitions by what the server says, and a caller who interrupts."""

from __future__ import annotations

from typing import Any

import pytest
from pipecat.frames.frames import InterruptionFrame, LLMRunFrame

from handlers.http.function import HttpFunctions
from templates.compile import Resolver, compile_template, entry_node
from templates.functions import HttpFunction
from templates.model import TemplateContent
from tests.handlers.http_harness import (
    LocalServer,
    RecordingCall,
    ServerAnswer,
    functions,
    parameters,
    running_server,
)
from tests.templates.flow_harness import running_flow


def booking(server: LocalServer) -> TemplateContent:
    """A flow that books by POST and goes where the answer's `state` leads."""
    branch = {"field": "state", "cases": {"booked": "thanks"}, "default": "sorry"}
    book = {
        "type": "http",
        "name": "book",
        "description": "Books a table.",
        "method": "POST",
        "url": f"{server.url}/tables",
        "parameters": parameters("guests", guests="integer"),
    }
    nodes = {
        "ask": {
            "role_message": "You take bookings.",
            "task_messages": [{"role": "developer", "content": "Ask how many come."}],
            "functions": [{"name": "book", "transition_to": branch}],
        },
        "thanks": {"task_messages": [{"role": "developer", "content": "Thank them."}]},
        "sorry": {"task_messages": [{"role": "developer", "content": "Say sorry."}]},
    }
    flow = {"initial_node": "ask", "nodes": nodes}
    return TemplateContent.model_validate({"name": "Bookings", "functions": [book], "flow": flow})


def on_call(content: TemplateContent, http: HttpFunctions) -> Resolver:
    http_function = {each.name: each for each in content.functions if isinstance(each, HttpFunction)}
    return lambda name: http.bind(http_function[name], content.variables, RecordingCall())


@pytest.mark.parametrize(
    ("arguments", "answer", "arrives"),
    [
        ({"guests": 4}, ServerAnswer(body=b'{"state": "booked"}'), "Thank them."),
        ({"guests": 4}, ServerAnswer(body=b'{"state": "full"}'), "Say sorry."),
        ({"guests": 4}, ServerAnswer(status=500), None),
        ({"guests": "many"}, ServerAnswer(), None),
    ],
)
async def test_the_answer_leads_the_way(
    arguments: dict[str, Any], answer: ServerAnswer, arrives: str | None
) -> None:
    """A branch looks at the answer's own fields, and a failure leaves the conversation where it is."""
    async with running_server(answer) as server, functions(server) as http:
        content = booking(server)
        async with running_flow(("book", arguments), "Well.") as harness:
            await harness.manager.initialize(entry_node(compile_template(content, on_call(content, http))))
            await harness.until(lambda: len(harness.model.heard) == 2)
            last = harness.model.heard[1].messages[-1]
    assert last["content"] == arrives if arrives else last["role"] == "tool"


async def test_interrupted_booking_is_made_once() -> None:
    """If the caller interrupts a booking, the model's repeated call gets the result of the only booking."""
    slow = ServerAnswer(after_s=0.8, body=b'{"state": "booked"}')
    book = ("book", {"guests": 4})
    async with running_server(slow) as server, functions(server) as http:
        content = booking(server)
        async with running_flow(book, book, "Booked.") as harness:
            await harness.manager.initialize(entry_node(compile_template(content, on_call(content, http))))
            await harness.until(lambda: len(server.seen) == 1)
            await harness.manager.worker.queue_frames([InterruptionFrame(), LLMRunFrame()])
            await harness.until(lambda: len(harness.model.heard) == 3)
            cancelled, to_result = harness.model.heard[1].messages[-1], harness.model.heard[2].messages[-1]
        assert len(server.seen) == 1
    assert (cancelled["role"], cancelled["content"]) == ("tool", "CANCELLED")
    assert to_result["content"] == "Thank them."
