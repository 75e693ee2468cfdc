"""Response times for authors: lists of many templates, and saving a large template.

``python -m bench.authoring`` prints JSON. It fails when the p95 of a page of 10,000 templates (filtered or
not) is more than 50 ms, when the p95 of saving a template of 200 nodes is more than 100 ms, or when the pages
together do not contain every template exactly once.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any
from uuid import UUID

import httpx

from bench.handoff_setup import fresh_server, replica
from bench.report import percentiles, run_and_report
from db import accounts, keys, numbers
from db.ids import new_id
from db.numbers import NumberDraft
from db.pool import Database
from templates.model import TemplateContent

MAX_LIST_P95_MS = 50
MAX_SAVE_P95_MS = 100
_PROMPT = "You are the billing agent of Acme. Help the caller with their invoice, and be kind. " * 12
_WARM_UP = 5

Request = Callable[[], Awaitable[httpx.Response]]


async def lists(client: httpx.AsyncClient, number_id: UUID, samples: int, size: int) -> dict[str, Any]:
    """Time each usual query of the list, ``samples`` times, and read all pages once.

    Raises:
        AssertionError: a template was missing from the pages or was on two of them.
    """
    queries: Mapping[str, Mapping[str, Any]] = {
        "newest": {},
        "by_kind_and_status": {"kind": "agent", "status": "draft"},
        "by_number": {"number_id": str(number_id)},
        "by_common_name": {"name": "AGENT"},
        "by_rare_name": {"name": f"agent {size // 2} "},
        "by_unknown_name": {"name": "no such template"},
        "longest_page": {"limit": 200},
    }
    figures: dict[str, Any] = {}
    for name, query in queries.items():
        figures[name] = await timed(partial(client.get, "/templates", params=query), samples)
    figures["all_pages"], ids = await _read_all_pages(client)
    assert len(ids) == len(set(ids)) == size, (len(ids), len(set(ids)))
    return figures


async def saves(client: httpx.AsyncClient, nodes: int, samples: int) -> dict[str, Any]:
    """Time creating, replacing, patching and checking a template with ``nodes`` nodes."""
    document = large_template(nodes)
    created = await client.post("/templates", json=document)
    assert created.status_code == 201, created.text
    path, headers = f"/templates/{created.json()['id']}", {"If-Match": "*"}
    counter = itertools.count()
    requests: Mapping[str, Request] = {
        "replace": lambda: client.put(path, json=document, headers=headers),
        "patch": lambda: client.patch(path, json={"description": f"Asks {next(counter)}."}, headers=headers),
        "create": lambda: client.post("/templates", json={**document, "name": f"Large {next(counter)}"}),
        "check": lambda: client.post("/templates/check", json=document),
    }
    return {name: await timed(request, samples) for name, request in requests.items()}


async def timed(request: Request, samples: int) -> dict[str, float]:
    """Percentiles of the time from a request to its complete answer in ms; the requests are sequential."""
    durations_ms = []
    for number in range(_WARM_UP + samples):
        started = time.perf_counter()
        answer = await request()
        elapsed_ms = (time.perf_counter() - started) * 1000
        assert answer.is_success, answer.text
        if number >= _WARM_UP:
            durations_ms.append(elapsed_ms)
    return percentiles(durations_ms)


def large_template(nodes: int) -> dict[str, Any]:
    """A template whose flow has ``nodes`` nodes, each with a task and two transitions."""
    names = [f"step_{number}" for number in range(nodes)]
    return {
        "name": "Large",
        "status": "active",
        "description": "Asks many questions.",
        "variables": [{"name": "customer", "required": True}],
        "functions": [{"type": "builtin", "name": "end_call"}],
        "flow": {
            "initial_node": names[0],
            "nodes": {name: _node(names, index) for index, name in enumerate(names)},
        },
    }


def _node(names: list[str], index: int) -> dict[str, Any]:
    transitions = {"next": names[(index + 1) % len(names)], "back": names[index - 1]}
    return {
        "role_message": "You are kind to {{ customer }}.",
        "task_messages": [
            {"role": "developer", "content": f"Ask {{{{ customer }}}} question {index}. {_PROMPT}"}
        ],
        "functions": [
            {
                "name": f"go_{direction}_{index}",
                "transition_only": True,
                "description": f"Go {direction} from question {index}.",
                "transition_to": target,
            }
            for direction, target in transitions.items()
        ],
    }


async def _read_all_pages(client: httpx.AsyncClient) -> tuple[dict[str, float], list[str]]:
    """Percentiles of the time of one page in ms, and the ids on all pages."""
    durations_ms, ids = [], list[str]()
    cursor: str | None = None
    while True:
        started = time.perf_counter()
        page = (await client.get("/templates", params={"cursor": cursor} if cursor else {})).json()
        durations_ms.append((time.perf_counter() - started) * 1000)
        ids += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return percentiles(durations_ms), ids


async def _insert_templates(database: Database, account_id: UUID, size: int) -> UUID:
    """Insert ``size`` templates without checking them, and return the id of the number that 1 in 500 has."""
    number = await numbers.create(database, account_id, NumberDraft(e164="+14155550123", carrier="twilio"))
    names = [f"Agent {index} of Acme" for index in range(size)]
    contents = [TemplateContent(name=name, prompt=_PROMPT).model_dump(mode="json") for name in names]
    await database.execute(
        """
        INSERT INTO templates (id, account_id, name, kind, status, number_id, content)
        SELECT id, $1, name, 'agent', 'draft', CASE WHEN position % 500 = 0 THEN $2::uuid END, content
        FROM unnest($3::uuid[], $4::text[], $5::json[]) WITH ORDINALITY AS given (id, name, content, position)
        """,
        account_id,
        number.id,
        [new_id() for _ in names],
        names,
        contents,
    )
    await database.execute("ANALYZE templates")
    return number.id


async def measure(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Run all measurements with a new database and server process.

    Raises:
        AssertionError: a limit was exceeded, or the pages are wrong.
    """
    async with fresh_server() as dsn:
        database = await Database.connect(dsn)
        account_id = (await accounts.create(database, "Authors")).id
        key = (await keys.create(database, account_id, "owner")).key
        number_id = await _insert_templates(database, account_id, arguments.templates)
        await database.close()
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            replica(dsn) as url,
            httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers, timeout=60) as client,
        ):
            list_figures = await lists(client, number_id, arguments.samples, arguments.templates)
            save_figures = await saves(client, arguments.nodes, arguments.samples)
    figures = {
        "templates": arguments.templates,
        "nodes": arguments.nodes,
        "lists": list_figures,
        "saves": save_figures,
    }
    slow = [name for name, each in list_figures.items() if each["p95"] > MAX_LIST_P95_MS]
    slow += [name for name, each in save_figures.items() if each["p95"] > MAX_SAVE_P95_MS]
    assert not slow, f"too slow at p95: {', '.join(slow)}: {figures}"
    return figures


def main() -> None:
    """Run the bench with the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.authoring",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--templates", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--samples", type=int, default=100)
    asyncio.run(run_and_report(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
