"""Frequent queries use indexes, and lists of many rows read few blocks."""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from db import (
    attempts,
    audit,
    call_ends,
    call_leases,
    call_lists,
    call_snapshot,
    call_tokens,
    call_use,
    calls,
    carrier_calls,
    dispatch,
    events,
    finalisation,
    greetings,
    handoff_work,
    inbound,
    keys,
    lead_control,
    leads,
    legs,
    model_requests,
    numbers,
    outbox,
    revisions,
    routes,
    template_targets,
    templates,
    utterances,
)
from db.attempts import AttemptLimits
from db.audit import AuditFilter
from db.call_ends import EndWithEvent
from db.call_lists import CallFilter
from db.calls import CallEnd
from db.dispatch import ClaimedLead
from db.leads import LeadFilter
from db.numbers import NumberFilter
from db.pool import Database, Row, Transaction
from db.templates import TemplateFilter
from tests.db.seed import (
    CALLER,
    NOON,
    SeededAccount,
    draft,
    make_event,
    make_model_request,
    make_route,
    make_token_use,
    make_utterance,
    seed_account,
    webhook,
)
from tests.empty_databases import NewDatabase, opened

MINUTE = timedelta(minutes=1)
END = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=NOON)


@pytest.fixture
async def database(new_database: NewDatabase) -> AsyncIterator[Database]:
    """A database of the test alone: plans depend on statistics, and blocks on rows that were deleted."""
    async with opened(new_database) as database:
        yield database


class RolledBack(Exception):
    """Raised at the end of a transaction that leaves nothing."""


class Explaining:
    """A transaction that also asks for the plan of each statement.

    With ``analyze`` each statement runs a second time, to count the blocks (of 8 KiB) that it reads.
    """

    def __init__(self, transaction: Transaction, *, analyze: bool = False) -> None:
        self._transaction = transaction
        self._options = "ANALYZE, BUFFERS, FORMAT JSON" if analyze else "FORMAT JSON"
        self.read_from_end_to_end: list[tuple[str, str]] = []
        self.blocks: list[int] = []

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
        row = await self._transaction.fetchrow(f"EXPLAIN ({self._options}) {query}", *arguments)
        assert row is not None
        plan = row["QUERY PLAN"]
        nodes = [(plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]]
        self.blocks.append(nodes[0].get("Shared Hit Blocks", 0) + nodes[0].get("Shared Read Blocks", 0))
        while nodes:
            node = nodes.pop()
            nodes += node.get("Plans", [])
            if node["Node Type"] == "Seq Scan":
                self.read_from_end_to_end.append((node["Relation Name"], " ".join(query.split())))


LIMITS = AttemptLimits(now=NOON, calls=3, period=MINUTE, held_for=MINUTE)


def claimed(seeded: SeededAccount) -> ClaimedLead:
    """The lead of the seeded call, as if it was claimed."""
    return ClaimedLead(
        id=seeded.call.lead_id, account_id=seeded.id, phone=CALLER, number_id=seeded.number.id,
        template_id=seeded.front.id, carrier="twilio", time_zone="UTC", earliest_at=None, latest_at=None,
        attempts=0, payload={}, claimed_by=seeded.call.id, template_status="active", template_revision=1,
        outbound=None, opted_out=False,
    )  # fmt: skip


def end_of(seeded: SeededAccount) -> EndWithEvent:
    """How the seeded call ends."""
    return EndWithEvent(account_id=seeded.id, call_id=seeded.call.id, end=END, data={})


HOT: dict[str, Callable[[Any, SeededAccount], Awaitable[object]]] = {
    "begin a call": lambda d, w: inbound.begin(d, webhook(w.number.e164, "CA-plan")),
    "begin it again": lambda d, w: inbound.begin(d, webhook(w.number.e164, str(w.call.carrier_call_id))),
    "carrier status": lambda d, w: carrier_calls.carrier_status(
        d, "twilio", str(w.call.carrier_call_id), "ringing"
    ),
    "use a token": lambda d, w: call_tokens.consume_token(d, make_token_use(w)),
    "answer": lambda d, w: calls.answered(d, w.id, w.call.id, NOON),
    "node": lambda d, w: calls.set_node(d, w.id, w.call.id, "n"),
    "outcome": lambda d, w: calls.record_outcome(d, w.id, w.call.id, "o"),
    "finish": lambda d, w: calls.finish(d, w.id, w.call.id, END),
    "finish with an event": lambda d, w: call_ends.finish_with_event(d, end_of(w)),
    "finish calls that were not answered": lambda d, w: call_ends.finish_unanswered(d, [end_of(w)]),
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
    "a request to the model": lambda d, w: model_requests.append(d, make_model_request(w), same_tools=False),
    "requests of a call": lambda d, w: model_requests.of_call(d, w.id, w.call.id, limit=50),
    "events of a call": lambda d, w: events.of_call(d, w.id, w.call.id),
    "key": lambda d, w: keys.authenticate(d, w.key.key),
    "greeting": lambda d, w: greetings.put(d, w.id, "k", b"audio"),
    "a lead": lambda d, w: leads.get(d, w.id, w.call.lead_id),
    "leads": lambda d, w: leads.list_leads(d, w.id, LeadFilter(), limit=50),
    "leads by phone": lambda d, w: leads.list_leads(d, w.id, LeadFilter(phone="+1"), limit=50),
    "calls": lambda d, w: call_lists.list_calls(d, w.id, CallFilter(), limit=50),
    "calls by status": lambda d, w: call_lists.list_calls(d, w.id, CallFilter(status="ended"), limit=50),
    "templates": lambda d, w: templates.list_templates(d, w.id, TemplateFilter(kind="agent"), limit=50),
    "a template by name": lambda d, w: templates.by_name(d, w.id, "billing"),
    "who routes to it": lambda d, w: template_targets.used_by(d, w.id, w.billing.id),
    "where its routes lead": lambda d, w: template_targets.reached_from(d, w.id, [w.front.id]),
    "save a template": lambda d, w: templates.update(d, w.id, w.billing.id, draft("b"), expected_revision=1),
    "numbers": lambda d, w: numbers.list_numbers(d, w.id, NumberFilter(), limit=50),
    "revisions": lambda d, w: revisions.list_revisions(d, w.id, w.front.id, limit=50),
    "claim leads": lambda d, _: dispatch.claim(d, now=NOON, lease=MINUTE, limit=9, per_account=9),
    "when leads are due": lambda d, _: dispatch.next_due(d, NOON),
    "begin attempts": lambda d, w: attempts.begin_attempts(d, [(claimed(w), LIMITS)]),
    "whether a dial is wanted": lambda d, w: attempts.is_wanted(d, w.call),
    "an attempt's carrier id": lambda d, w: attempts.placed(d, w.id, w.call.id, "CA-plan", MINUTE),
    "whether a dial may be made": lambda d, w: attempts.dialable_of(d, [w.call.id]),
    "ids that are known": lambda d, w: attempts.ids_of_others(d, w.call, ["CA-plan"]),
    "an attempt that was not placed": lambda d, w: attempts.was_not_placed(d, w.call),
    "what calls have used": lambda d, w: call_use.of_calls(d, [w.call]),
    "claim ended calls": lambda d, _: finalisation.claim(d, now=NOON, until=NOON + MINUTE, limit=9),
    "when calls are finalised": lambda d, _: finalisation.next_due(d, NOON),
    "due notices": lambda d, _: outbox.due(d, NOON),
    "unclosed legs": lambda d, _: legs.are_unclosed(d),
    "work on handoffs": lambda d, _: handoff_work.find(d, NOON, silent_since=NOON),
    "changes of one": lambda d, w: audit.list_changes(d, w.id, AuditFilter(resource_id=w.front.id), limit=50),
}


@pytest.mark.parametrize("query", HOT)
async def test_no_table_is_scanned_sequentially(module_database: Database, query: str) -> None:
    """Every query of a call, a webhook or a page has an index."""
    with contextlib.suppress(RolledBack):
        async with module_database.transaction() as transaction:
            seeded = await seed_account(transaction)
            # The planner reads small tables whole; told not to, it does so only where no index helps.
            await transaction.execute("SET LOCAL enable_seqscan = off")
            explaining = Explaining(transaction)
            await HOT[query](explaining, seeded)
            raise RolledBack

    assert explaining.read_from_end_to_end == []


@pytest.mark.usefixtures("seeded")
async def test_explaining_finds_a_query_without_an_index(database: Database) -> None:
    """A query by a column without an index is reported, so that the test above can fail."""
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


# The p95 of these lists and of a save, in ms, is measured by `python -m bench.authoring`.
@pytest.mark.parametrize(
    ("where", "blocks"),
    [
        (TemplateFilter(), 20),
        (TemplateFilter(kind="orchestrator"), 60),
        (TemplateFilter(status="draft", kind="orchestrator"), 60),
        (TemplateFilter(name_contains="PLATE 99"), 600),
        (TemplateFilter(name_contains="no such name"), 600),
    ],
    ids=["all", "orchestrators", "drafts", "by name", "no match"],
)
async def test_a_page_of_10000_templates_reads_few_blocks(
    database: Database, seeded: SeededAccount, where: TemplateFilter, blocks: int
) -> None:
    """A page reads the rows that it returns or must compare, deep pages included, and no other rows."""
    await fill(database, seeded, 10_000)
    cursor = None
    async with database.transaction() as transaction:
        explaining: Any = Explaining(transaction, analyze=True)
        for _ in range(20):
            page = await templates.list_templates(explaining, seeded.id, where, limit=50, cursor=cursor)
            cursor = page.next_cursor
    assert max(explaining.blocks) <= blocks


async def test_a_claim_among_10000_leads_reads_few_blocks(database: Database, seeded: SeededAccount) -> None:
    """A claim reads the leads that it takes, and not those that are not due, paused or without a channel."""
    await database.execute(
        """
        INSERT INTO leads (id, account_id, direction, phone, number_id, initial_template_id, template_id,
            payload, variables, status, priority, next_attempt_at)
        SELECT gen_random_uuid(), $1, 'outbound', '+1415' || 6000000 + n, $2, $3, $3, '{}', '{}', 'queued',
            n % 3, $4
        FROM generate_series(1, 10000) n
        """,
        seeded.id,
        seeded.number.id,
        seeded.billing.id,
        NOON,
    )
    await database.execute("ANALYZE leads")

    async def claimed(now: datetime = NOON) -> tuple[int, int]:
        """How many leads a claim has taken, and the blocks that it has read."""
        async with database.transaction() as transaction:
            explaining: Any = Explaining(transaction, analyze=True)
            found = await dispatch.claim(explaining, now=now, lease=MINUTE, limit=8, per_account=8)
            await dispatch.next_due(explaining, now)
        assert "leads" not in [table for table, _ in explaining.read_from_end_to_end]
        return len(found), max(explaining.blocks)

    later = await claimed(NOON - MINUTE)
    await lead_control.stop(database, seeded.id, seeded.billing.id, "pause")
    paused = await claimed()
    await lead_control.lift_stop(database, seeded.id, seeded.billing.id, "pause")
    await database.execute("UPDATE numbers SET channels = 1")  # the seeded call has it
    without_channel = await claimed()
    await database.execute("UPDATE numbers SET channels = 10")
    due = await claimed()
    assert [count for count, _ in (later, paused, without_channel, due)] == [0, 0, 0, 8]
    assert max(blocks for _, blocks in (later, paused, without_channel)) < 150
    assert due[1] < 600


@pytest.mark.parametrize("where", ["template", "direction"])
async def test_a_page_of_few_among_10000_leads_reads_few_blocks(
    database: Database, seeded: SeededAccount, where: str
) -> None:
    """Leads of a template that has few, and inbound leads beside many that are dialled, have an index."""
    await database.execute(
        """
        INSERT INTO leads (id, account_id, direction, phone, number_id, initial_template_id, template_id,
            payload, variables, status, next_attempt_at)
        SELECT gen_random_uuid(), $1, 'outbound', '+1415' || 6000000 + n, $2, $3, $3, '{}', '{}', 'queued',
            $4
        FROM generate_series(1, 10000) n
        """,
        seeded.id,
        seeded.number.id,
        seeded.billing.id,
        NOON,
    )
    await database.execute("ANALYZE leads")
    few = LeadFilter(template_id=seeded.front.id) if where == "template" else LeadFilter(direction="inbound")
    async with database.transaction() as transaction:
        explaining: Any = Explaining(transaction, analyze=True)
        page = await leads.list_leads(explaining, seeded.id, few, limit=50)
    assert [lead.id for lead in page.items] == [seeded.call.lead_id]
    assert max(explaining.blocks) < 50


async def test_a_claim_from_many_queues_reads_few_leads(database: Database, seeded: SeededAccount) -> None:
    """What a claim reads grows with the leads that it takes, not with numbers times leads."""
    await database.execute(
        """
        WITH number AS (
            INSERT INTO numbers (id, account_id, e164, carrier, label, time_zone, channels)
            SELECT gen_random_uuid(), $1, '+1415' || 7000000 + n, 'twilio', '', 'UTC', 50
            FROM generate_series(1, 100) n RETURNING id, e164
        )
        INSERT INTO leads (id, account_id, direction, phone, number_id, initial_template_id, template_id,
            payload, variables, status, next_attempt_at)
        SELECT gen_random_uuid(), $1, 'outbound', '+1' || 2120000000 + right(e164, 3)::int * 100 + n,
            number.id, $2, $2, '{}', '{}', 'queued', $3
        FROM number CROSS JOIN generate_series(1, 50) n
        """,
        seeded.id,
        seeded.billing.id,
        NOON,
    )
    await database.execute("ANALYZE leads")
    async with database.transaction() as transaction:
        explaining: Any = Explaining(transaction, analyze=True)
        found = await dispatch.claim(explaining, now=NOON, lease=MINUTE, limit=50, per_account=50)
    assert len(found) == 50
    assert len({lead.number_id for lead in found}) == 50
    assert max(explaining.blocks) < 5000  # 50 leads of each number would be over 15,000


async def test_an_update_of_a_lease_writes_no_index(database: Database) -> None:
    """Claims of leads and of ended calls, and leases of live calls, change no indexed column."""
    rows = await database.fetch(
        """
        SELECT indexdef FROM pg_indexes WHERE tablename IN ('leads', 'calls')
            AND indexdef ~ 'claimed_by|claimed_until|held_until|finalise_after|carrier_status|waits_for'
        """
    )
    assert list(rows) == []


async def test_a_plan_for_an_empty_table_uses_its_indexes(database: Database) -> None:
    """The plan of a claim is kept while calls are added."""
    await database.execute("VACUUM calls")
    async with database.transaction() as transaction:
        explaining: Any = Explaining(transaction)
        await dispatch.claim(explaining, now=NOON, lease=MINUTE, limit=8, per_account=8)
    assert explaining.read_from_end_to_end == []


@pytest.mark.parametrize("counted", ["neither", "leads", "both"])
async def test_a_claim_reads_the_calls_of_its_persons_only(
    database: Database, seeded: SeededAccount, counted: str
) -> None:
    """Whether a person has a call is looked up for each lead that is read, by an index, whatever the
    planner knows of the tables."""
    await database.execute(
        """
        INSERT INTO leads (id, account_id, direction, phone, number_id, initial_template_id, template_id,
            payload, variables, status, next_attempt_at)
        SELECT gen_random_uuid(), $1, 'outbound', '+1415' || 6000000 + n, $2, $3, $3, '{}', '{}', 'queued', $4
        FROM generate_series(1, 2000) n
        """,
        seeded.id,
        seeded.number.id,
        seeded.billing.id,
        NOON,
    )
    await database.execute(
        """
        INSERT INTO calls (id, account_id, lead_id, number_id, carrier, direction, from_number, to_number,
            initial_template_id, template_id, revisions, status, ended_by, end_reason, started_at, ended_at,
            finalised_at)
        SELECT gen_random_uuid(), account_id, id, number_id, 'twilio', 'outbound', '+14155550100', phone,
            template_id, template_id, '{}', 'ended', 'carrier', 'busy', $1, $1, $1
        FROM leads CROSS JOIN generate_series(1, 5) WHERE direction = 'outbound'
        """,
        NOON,
    )
    for table in {"neither": (), "leads": ("leads",), "both": ("leads", "calls")}[counted]:
        await database.execute(f"ANALYZE {table}")
    async with database.transaction() as transaction:
        explaining: Any = Explaining(transaction, analyze=True)
        found = await dispatch.claim(explaining, now=NOON, lease=MINUTE, limit=8, per_account=8)
    assert len(found) == 8
    assert not {"calls", "leads"} & {table for table, _ in explaining.read_from_end_to_end}
    assert max(explaining.blocks) < 2000  # 2,000 leads would be over 6,000


async def test_saving_a_template_of_200_nodes_takes_as_many_statements_as_a_small_one(
    database: Database, seeded: SeededAccount
) -> None:
    """The number of statements does not depend on the size of the document."""
    node = {
        "role_message": "x" * 500,
        "task_messages": [{"role": "system", "content": "y" * 1500}],
        "functions": [],
    }
    statements = []
    for revision, nodes in enumerate((1, 200), start=1):
        content = {"flow": {"initial_node": "n0", "nodes": {f"n{n}": node for n in range(nodes)}}}
        document = templates.TemplateDraft(
            name="billing", kind="agent", status="active", number_id=None, content=content
        )
        async with database.transaction() as transaction:
            explaining: Any = Explaining(transaction)
            await templates.update(
                explaining, seeded.id, seeded.billing.id, document, expected_revision=revision
            )
        statements.append(len(explaining.blocks))

    assert statements[0] == statements[1] <= 10
