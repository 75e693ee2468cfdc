"""Hot queries are served by indexes, and lists stay quick with many rows."""

import contextlib
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from db import (
    audit,
    call_leases,
    call_snapshot,
    calls,
    events,
    greetings,
    inbound,
    keys,
    leads,
    numbers,
    revisions,
    routes,
    templates,
    utterances,
)
from db.audit import AuditFilter
from db.calls import CallEnd, CallFilter
from db.leads import LeadFilter
from db.numbers import NumberFilter
from db.pool import Database, Row, Transaction
from db.templates import TemplateFilter
from tests.db.seed import (
    NOON,
    SeededAccount,
    draft,
    make_event,
    make_route,
    make_token_use,
    make_utterance,
    webhook,
)

MINUTE = timedelta(minutes=1)
END = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=NOON)


class Explaining:
    """A transaction that also asks for the plan of each statement, for tables read from end to end."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self.read_from_end_to_end: list[tuple[str, str]] = []

    async def execute(self, query: str, *arguments: object) -> int:
        await self._explain(query, *arguments)
        return await self._transaction.execute(query, *arguments)

    async def fetch(self, query: str, *arguments: object) -> Sequence[Row]:
        await self._explain(query, *arguments)
        return await self._transaction.fetch(query, *arguments)

    async def fetchrow(self, query: str, *arguments: object) -> Row | None:
        await self._explain(query, *arguments)
        return await self._transaction.fetchrow(query, *arguments)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator["Explaining"]:
        async with self._transaction.transaction():
            yield self

    async def _explain(self, query: str, *arguments: object) -> None:
        row = await self._transaction.fetchrow(f"EXPLAIN (FORMAT JSON) {query}", *arguments)
        assert row is not None
        plan = row["QUERY PLAN"]
        nodes = [(plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]]
        while nodes:
            node = nodes.pop()
            nodes += node.get("Plans", [])
            if node["Node Type"] == "Seq Scan":
                self.read_from_end_to_end.append((node["Relation Name"], " ".join(query.split())))


HOT: dict[str, Callable[[Any, SeededAccount], Awaitable[object]]] = {
    "begin a call": lambda d, w: inbound.begin(d, webhook(w.number.e164, "CA-plan")),
    "begin it again": lambda d, w: inbound.begin(d, webhook(w.number.e164, str(w.call.carrier_call_id))),
    "carrier status": lambda d, w: calls.carrier_status(d, "twilio", str(w.call.carrier_call_id), "ringing"),
    "use a token": lambda d, w: inbound.consume_token(d, make_token_use(w)),
    "answer": lambda d, w: calls.answered(d, w.id, w.call.id, NOON),
    "node": lambda d, w: calls.set_node(d, w.id, w.call.id, "n"),
    "outcome": lambda d, w: calls.record_outcome(d, w.id, w.call.id, "o"),
    "finish": lambda d, w: calls.finish(d, w.id, w.call.id, END),
    "targets": lambda d, w: revisions.targets(d, w.id, [w.front.id, w.billing.id]),
    "route": lambda d, w: routes.complete(d, make_route(w)),
    "routes of a call": lambda d, w: routes.of_call(d, w.id, w.call.id),
    "utterance": lambda d, w: utterances.record(d, make_utterance(w)),
    "snapshot of a call": lambda d, w: call_snapshot.of_call(d, w.id, w.call.id, max_utterances=9),
    "transcript": lambda d, w: utterances.of_call(d, w.id, w.call.id),
    "renew leases": lambda d, w: call_leases.renew(d, [w.call.id], MINUTE),
    "end expired leases": lambda d, _: call_leases.end_expired(d, limit=50),
    "event": lambda d, w: events.record(d, make_event(w)),
    "an event behind the others": lambda d, w: events.append(d, make_event(w)),
    "events of a call": lambda d, w: events.of_call(d, w.id, w.call.id),
    "key": lambda d, w: keys.authenticate(d, w.key.key),
    "greeting": lambda d, w: greetings.put(d, w.id, "k", b"audio"),
    "a lead": lambda d, w: leads.get(d, w.id, w.call.lead_id),
    "leads": lambda d, w: leads.list_leads(d, w.id, LeadFilter(), limit=50),
    "leads by phone": lambda d, w: leads.list_leads(d, w.id, LeadFilter(phone="+1"), limit=50),
    "calls": lambda d, w: calls.list_calls(d, w.id, CallFilter(), limit=50),
    "calls by status": lambda d, w: calls.list_calls(d, w.id, CallFilter(status="ended"), limit=50),
    "templates": lambda d, w: templates.list_templates(d, w.id, TemplateFilter(kind="agent"), limit=50),
    "a template by name": lambda d, w: templates.by_name(d, w.id, "billing"),
    "who routes to it": lambda d, w: templates.used_by(d, w.id, w.billing.id),
    "save a template": lambda d, w: templates.update(d, w.id, w.billing.id, draft("b"), expected_revision=1),
    "numbers": lambda d, w: numbers.list_numbers(d, w.id, NumberFilter(), limit=50),
    "revisions": lambda d, w: revisions.list_revisions(d, w.id, w.front.id, limit=50),
    "changes of one": lambda d, w: audit.list_changes(d, w.id, AuditFilter(resource_id=w.front.id), limit=50),
}


@pytest.mark.parametrize("query", HOT)
async def test_no_table_is_read_from_end_to_end(
    database: Database, seeded: SeededAccount, query: str
) -> None:
    """There is an index for what a call, a webhook or a page asks for."""
    async with database.transaction() as transaction:
        # The planner reads small tables whole; told not to, it does so only where no index helps.
        await transaction.execute("SET LOCAL enable_seqscan = off")
        explaining = Explaining(transaction)
        await HOT[query](explaining, seeded)

    assert explaining.read_from_end_to_end == []


@pytest.mark.usefixtures("seeded")
async def test_the_explaining_finds_what_has_no_index(database: Database) -> None:
    """The test above would notice: a query by a column without an index is found out."""
    async with database.transaction() as transaction:
        await transaction.execute("SET LOCAL enable_seqscan = off")
        explaining = Explaining(transaction)
        await explaining.fetch("SELECT id FROM calls WHERE end_reason = $1", "hangup")

    assert [table for table, _ in explaining.read_from_end_to_end] == ["calls"]


async def fill(database: Database, seeded: SeededAccount, count: int) -> None:
    """Add templates of 2 KB each, one in ten a draft orchestrator."""
    await database.execute(
        """
        INSERT INTO templates (id, account_id, name, kind, status, content)
        SELECT ('0195' || lpad(to_hex(n), 8, '0') || '70008000000000000000')::uuid, $1,
            'template ' || n,
            CASE WHEN n % 10 = 0 THEN 'orchestrator' ELSE 'agent' END,
            CASE WHEN n % 10 = 0 THEN 'draft' ELSE 'active' END,
            jsonb_build_object('prompt', repeat(md5(n::text), 64))
        FROM generate_series(1, $2::int) n
        """,
        seeded.id,
        count,
    )
    await database.execute("ANALYZE templates")


def percentile_95(milliseconds: Sequence[float]) -> float:
    return sorted(milliseconds)[math.ceil(len(milliseconds) * 0.95) - 1]


@pytest.mark.parametrize(
    "where",
    [
        TemplateFilter(),
        TemplateFilter(kind="orchestrator"),
        TemplateFilter(status="draft", kind="orchestrator"),
        TemplateFilter(name_contains="PLATE 99"),
        TemplateFilter(name_contains="no such name"),
    ],
    ids=lambda where: f"{where.kind} {where.status} {where.name_contains}",
)
async def test_10000_templates_are_listed_filtered_and_paged_within_50_ms(
    database: Database, seeded: SeededAccount, where: TemplateFilter
) -> None:
    """Ninety-five of a hundred pages, deep ones included, take no longer."""
    await fill(database, seeded, 10_000)
    took, cursor = [], None
    for _ in range(100):
        began = time.perf_counter()
        page = await templates.list_templates(database, seeded.id, where, limit=50, cursor=cursor)
        took.append((time.perf_counter() - began) * 1000)
        cursor = page.next_cursor

    assert percentile_95(took) < 50


async def test_a_template_of_200_nodes_is_saved_within_100_ms(
    database: Database, seeded: SeededAccount
) -> None:
    """The document's size does not make a save slow."""
    node = {
        "role_message": "x" * 500,
        "task_messages": [{"role": "system", "content": "y" * 1500}],
        "functions": [],
    }
    large = {"flow": {"initial_node": "n0", "nodes": {f"n{n}": node for n in range(200)}}}
    took, revision = [], 1
    for _ in range(40):
        began = time.perf_counter()
        document = templates.TemplateDraft(
            name="billing", kind="agent", status="active", number_id=None, content=large
        )
        await templates.update(database, seeded.id, seeded.billing.id, document, expected_revision=revision)
        took.append((time.perf_counter() - began) * 1000)
        revision += 1

    assert percentile_95(took) < 100
