"""Requests to the model: stored without what they repeat, answered whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from db import model_requests
from db.ids import new_id
from db.model_requests import ModelRequestRecord
from db.pool import Database
from db.rows import after_seq
from tests.db.seed import SeededAccount, make_model_request


def conversation(seeded: SeededAccount, count: int) -> Sequence[ModelRequestRecord]:
    """Requests that each have all messages of the previous one, and two more."""
    first = make_model_request(seeded)
    messages: list[Any] = list(first.messages)
    requests = []
    for seq in range(1, count + 1):
        shared = 0 if seq == 1 else len(messages)
        messages = [*messages, {"role": "assistant", "content": f"answer {seq}"}] if seq > 1 else messages
        requests.append(replace(first, id=new_id(), seq=seq, shared=shared, messages=list(messages)))
    return requests


async def test_a_request_is_read_with_all_its_messages(database: Database, seeded: SeededAccount) -> None:
    """Each request has the messages and tools that it was made with, although repetitions are not stored."""
    requests = conversation(seeded, 4)
    for request in requests:
        await model_requests.append(database, request, same_tools=request.seq > 1)
        await model_requests.append(database, request, same_tools=request.seq > 1)

    found = await model_requests.of_call(database, seeded.id, seeded.call.id, limit=9)
    assert found.items == requests
    assert found.next_cursor is None
    stored = await database.fetch("SELECT jsonb_array_length(messages) AS count, tools FROM model_requests")
    assert sorted(row["count"] for row in stored) == [1, 1, 1, 2]
    assert [row["tools"] for row in stored].count(None) == 3


async def test_requests_are_read_page_by_page(database: Database, seeded: SeededAccount) -> None:
    """The pages hold each request once, in order."""
    requests = conversation(seeded, 5)
    for request in requests:
        await model_requests.append(database, request, same_tools=request.seq > 1)

    found: list[ModelRequestRecord] = []
    cursor = None
    while True:
        page = await model_requests.of_call(
            database, seeded.id, seeded.call.id, after=after_seq(cursor), limit=2
        )
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == requests


async def test_requests_of_another_process_are_numbered_on(database: Database, seeded: SeededAccount) -> None:
    """A process that resumes a call and restarts its numbers writes after the existing events."""
    for said in ("Hello?", "Are you there?"):
        await model_requests.append(database, make_model_request(seeded, said=said), same_tools=False)

    found = await model_requests.of_call(database, seeded.id, seeded.call.id, limit=9)
    assert [(each.seq, each.messages[-1]["content"]) for each in found.items] == [
        (1, "Hello?"),
        (2, "Are you there?"),
    ]
