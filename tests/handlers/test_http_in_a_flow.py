"""HTTP functions in a real pipecat flow: transitions by what the server says, and a caller who interrupts."""

from __future__ import annotations

from typing import Any

import pytest
from pipecat.frames.frames import InterruptionFrame, LLMRunFrame

from handlers.http import HttpFunctions
from templates.compile import Resolver, compile_template, entry_node
from templates.functions import HttpFunction
from templates.model import TemplateContent
from tests.handlers.world import Answer, Call, LocalServer, a_server, functions, parameters
from tests.templates.stage import on_stage


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
    declared = {each.name: each for each in content.functions if isinstance(each, HttpFunction)}
    return lambda name: http.bind(declared[name], content.variables, Call())


@pytest.mark.parametrize(
    ("arguments", "answer", "arrives"),
    [
        ({"guests": 4}, Answer(body=b'{"state": "booked"}'), "Thank them."),
        ({"guests": 4}, Answer(body=b'{"state": "full"}'), "Say sorry."),
        ({"guests": 4}, Answer(status=500), None),
        ({"guests": "many"}, Answer(), None),
    ],
)
async def test_the_answer_leads_the_way(
    arguments: dict[str, Any], answer: Answer, arrives: str | None
) -> None:
    """A branch looks at the answer's own fields, and a failure leaves the conversation where it is."""
    async with a_server(answer) as server, functions(server) as http:
        content = booking(server)
        async with on_stage(("book", arguments), "Well.") as stage:
            await stage.manager.initialize(entry_node(compile_template(content, on_call(content, http))))
            await stage.until(lambda: len(stage.model.heard) == 2)
            last = stage.model.heard[1].messages[-1]
    assert last["content"] == arrives if arrives else last["role"] == "tool"


async def test_a_caller_who_interrupts_books_once() -> None:
    """Interrupted while the server works, the model calls again and is told of the one booking."""
    slow = Answer(after_s=0.8, body=b'{"state": "booked"}')
    book = ("book", {"guests": 4})
    async with a_server(slow) as server, functions(server) as http:
        content = booking(server)
        async with on_stage(book, book, "Booked.") as stage:
            await stage.manager.initialize(entry_node(compile_template(content, on_call(content, http))))
            await stage.until(lambda: len(server.seen) == 1)
            await stage.manager.worker.queue_frames([InterruptionFrame(), LLMRunFrame()])
            await stage.until(lambda: len(stage.model.heard) == 3)
            cancelled, told = stage.model.heard[1].messages[-1], stage.model.heard[2].messages[-1]
        assert len(server.seen) == 1
    assert (cancelled["role"], cancelled["content"]) == ("tool", "CANCELLED")
    assert told["content"] == "Thank them."
