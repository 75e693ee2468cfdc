"""What authors wait for: long lists of templates, and the saving of a large one.

``python -m bench.authoring`` prints JSON; it fails when a page of 10,000 templates, filtered or not, takes
more than 50 ms at p95, when a template is on no page, or when saving one of 200 nodes takes more than 100 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

import httpx

from bench.handoff_setup import fresh_server, replica
from bench.verdict import judged
from bench.world import percentiles
from db import accounts, keys, numbers
from db.ids import new_id
from db.numbers import NumberDraft
from db.pool import Database
from templates.model import TemplateContent

LIST_MS = 50
SAVE_MS = 100
_PROMPT = "You are the billing agent of Acme. Help the caller with their invoice, and be kind. " * 12
_WARM_UP = 5

Ask = Callable[[], Awaitable[httpx.Response]]


async def lists(client: httpx.AsyncClient, number_id: UUID, samples: int, size: int) -> dict[str, Any]:
    """Ask for lists in every usual way, ``samples`` times each, and walk through all pages once.

    Raises:
        AssertionError: a template was missing from the pages or came twice.
    """
    queries: Mapping[str, Mapping[str, Any]] = {
        "newest": {},
        "by_kind_and_status": {"kind": "agent", "status": "draft"},
        "by_number": {"number_id": str(number_id)},
        "by_common_name": {"name": "AGENT"},
        "by_rare_name": {"name": f"agent {size // 2} "},
        "by_no_name": {"name": "nobody is called that"},
        "longest_page": {"limit": 200},
    }
    found: dict[str, Any] = {}
    for name, query in queries.items():
        found[name] = await timed(lambda query=query: client.get("/templates", params=query), samples)
    found["page_by_page"], ids = await _walk(client)
    assert len(ids) == len(set(ids)) == size, (len(ids), len(set(ids)))
    return found


async def saves(client: httpx.AsyncClient, nodes: int, samples: int) -> dict[str, Any]:
    """Create, replace, patch and check a template of so many nodes."""
    document = large(nodes)
    made = await client.post("/templates", json=document)
    assert made.status_code == 201, made.text
    path, headers = f"/templates/{made.json()['id']}", {"If-Match": "*"}
    numbered = iter(range(10**6))
    asks: Mapping[str, Ask] = {
        "replace": lambda: client.put(path, json=document, headers=headers),
        "patch": lambda: client.patch(path, json={"description": f"Asks {next(numbered)}."}, headers=headers),
        "create": lambda: client.post("/templates", json={**document, "name": f"Large {next(numbered)}"}),
        "check": lambda: client.post("/templates/check", json=document),
    }
    return {name: await timed(ask, samples) for name, ask in asks.items()}


async def timed(ask: Ask, samples: int) -> dict[str, float]:
    """Milliseconds from a request to the whole answer, one request after the other."""
    took = []
    for number in range(_WARM_UP + samples):
        began = time.perf_counter()
        answer = await ask()
        passed = (time.perf_counter() - began) * 1000
        assert answer.is_success, answer.text
        if number >= _WARM_UP:
            took.append(passed)
    return percentiles(took)


def large(nodes: int) -> dict[str, Any]:
    """A template whose flow has so many nodes, each with its task and two ways on."""
    names = [f"step_{number}" for number in range(nodes)]
    return {
        "name": "Large",
        "status": "active",
        "description": "Asks many questions.",
        "variables": [{"name": "customer", "required": True}],
        "functions": [{"type": "builtin", "name": "end_call"}],
        "flow": {
            "initial_node": names[0],
            "nodes": {name: _node(names, at) for at, name in enumerate(names)},
        },
    }


def _node(names: list[str], at: int) -> dict[str, Any]:
    ways = {"next": names[(at + 1) % len(names)], "back": names[at - 1]}
    return {
        "role_message": "You are kind to {{ customer }}.",
        "task_messages": [
            {"role": "developer", "content": f"Ask {{{{ customer }}}} question {at}. {_PROMPT}"}
        ],
        "functions": [
            {
                "name": f"go_{word}_{at}",
                "transition_only": True,
                "description": f"Go {word} from question {at}.",
                "transition_to": target,
            }
            for word, target in ways.items()
        ],
    }


async def _walk(client: httpx.AsyncClient) -> tuple[dict[str, float], list[str]]:
    took, ids = [], list[str]()
    cursor: str | None = None
    while True:
        began = time.perf_counter()
        page = (await client.get("/templates", params={"cursor": cursor} if cursor else {})).json()
        took.append((time.perf_counter() - began) * 1000)
        ids += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return percentiles(took), ids


async def _fill(database: Database, account_id: UUID, size: int) -> UUID:
    """So many templates, one in five hundred of them on a number; without the check, which takes long."""
    number = await numbers.create(database, account_id, NumberDraft(e164="+14155550123", carrier="twilio"))
    names = [f"Agent {each} of Acme" for each in range(size)]
    contents = [TemplateContent(name=name, prompt=_PROMPT).model_dump(mode="json") for name in names]
    await database.execute(
        """
        INSERT INTO templates (id, account_id, name, kind, status, number_id, content)
        SELECT id, $1, name, 'agent', 'draft', CASE WHEN place % 500 = 0 THEN $2::uuid END, content
        FROM unnest($3::uuid[], $4::text[], $5::json[]) WITH ORDINALITY AS given (id, name, content, place)
        """,
        account_id,
        number.id,
        [new_id() for _ in names],
        names,
        contents,
    )
    await database.execute("ANALYZE templates")
    return number.id


async def measured(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Everything, on a database and in a server process of its own.

    Raises:
        AssertionError: something took longer than it may, or a page was missing.
    """
    async with fresh_server() as dsn:
        database = await Database.connect(dsn)
        account_id = (await accounts.create(database, "Authors")).id
        key = (await keys.create(database, account_id, "owner")).key
        number_id = await _fill(database, account_id, arguments.templates)
        await database.close()
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            replica(dsn) as url,
            httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers, timeout=60) as client,
        ):
            listed = await lists(client, number_id, arguments.samples, arguments.templates)
            saved = await saves(client, arguments.nodes, arguments.samples)
    found = {"templates": arguments.templates, "nodes": arguments.nodes, "lists": listed, "saves": saved}
    slow = [name for name, each in listed.items() if each["p95"] > LIST_MS]
    slow += [name for name, each in saved.items() if each["p95"] > SAVE_MS]
    assert not slow, f"too slow at p95: {', '.join(slow)}: {found}"
    return found


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--templates", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--samples", type=int, default=100)
    asyncio.run(judged(measured(parser.parse_args())))


if __name__ == "__main__":
    main()
