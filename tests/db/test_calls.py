import asyncio
import random
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from db import call_lists, calls, carrier_calls, inbound, leads, templates
from db.call_lists import CallFilter
from db.calls import CallEnd, CarrierStatus
from db.errors import NotFound
from db.pool import Database
from tests.db.seed import NOON, SeededAccount, webhook

HANGUP = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=NOON + timedelta(seconds=9))


async def test_an_answer_puts_call_and_lead_in_progress(database: Database, seeded: SeededAccount) -> None:
    """The first answer's time stays when it is repeated."""
    await calls.answered(database, seeded.id, seeded.call.id, NOON)
    call = await calls.answered(database, seeded.id, seeded.call.id, NOON + timedelta(seconds=5))

    assert (call.status, call.answered_at) == ("in_progress", NOON)
    assert (await leads.get(database, seeded.id, call.lead_id)).status == "in_progress"


async def test_a_call_ends_with_its_lead_and_its_facts(database: Database, seeded: SeededAccount) -> None:
    """Who ended it, why, when, what came of it and how long it took are kept; the lead is finished."""
    await calls.answered(database, seeded.id, seeded.call.id, NOON)
    finished = await calls.finish(database, seeded.id, seeded.call.id, replace(HANGUP, outcome="paid"))

    assert finished.first
    call = finished.call
    assert (call.status, call.ended_by, call.end_reason, call.outcome) == (
        "ended",
        "caller",
        "hangup",
        "paid",
    )
    assert call.duration_ms == 9000
    assert await calls.get(database, seeded.id, call.id) == call
    lead = await leads.get(database, seeded.id, call.lead_id)
    assert (lead.status, lead.outcome, lead.finished_at) == ("finished", "paid", HANGUP.ended_at)


async def test_the_first_end_is_the_end(database: Database, seeded: SeededAccount) -> None:
    """A later end changes nothing and returns the stored end; repeating the first one succeeds."""
    await calls.finish(database, seeded.id, seeded.call.id, HANGUP)
    late = replace(HANGUP, ended_by="system", end_reason="max_duration", outcome="late")

    loser = await calls.finish(database, seeded.id, seeded.call.id, late)
    assert not loser.first
    assert (loser.call.ended_by, loser.call.end_reason, loser.call.outcome) == ("caller", "hangup", None)
    assert (await calls.finish(database, seeded.id, seeded.call.id, HANGUP)).first


async def test_of_many_ends_at_once_one_wins(database: Database, dsn: str, seeded: SeededAccount) -> None:
    """Caller, agent, carrier and system all end the call through two replicas: one of them did."""
    replica = await Database.connect(dsn)
    enders: list[Any] = ["caller", "agent", "carrier", "system"] * 3
    ends = [replace(HANGUP, ended_by=who, end_reason=f"reason {n}") for n, who in enumerate(enders)]
    results = await asyncio.gather(
        *(calls.finish(random.choice([database, replica]), seeded.id, seeded.call.id, end) for end in ends)
    )
    await replica.close()

    assert [result.first for result in results].count(True) == 1
    assert len({(result.call.ended_by, result.call.end_reason) for result in results}) == 1


async def test_the_lead_is_finished_though_its_template_is_gone(
    database: Database, seeded: SeededAccount
) -> None:
    """A template deleted during the call keeps neither call nor lead from their end."""
    await templates.delete(database, seeded.id, seeded.front.id, expected_revision=1)

    finished = await calls.finish(database, seeded.id, seeded.call.id, HANGUP)

    assert finished.first
    assert (await leads.get(database, seeded.id, seeded.call.lead_id)).status == "finished"


async def test_nothing_changes_a_call_that_has_ended(database: Database, seeded: SeededAccount) -> None:
    """Answers, statuses, nodes, outcomes, revisions and resumes that come late are not written."""
    ended = (await calls.finish(database, seeded.id, seeded.call.id, HANGUP)).call

    assert await calls.answered(database, seeded.id, ended.id, NOON) == ended
    assert await calls.set_status(database, seeded.id, ended.id, "transferring") == ended
    assert await calls.set_node(database, seeded.id, ended.id, "late") == ended
    assert await calls.record_outcome(database, seeded.id, ended.id, "late") == ended
    assert await calls.keep_revisions(database, seeded.id, ended.id, {uuid4(): 9}) == ended
    assert await calls.resumed(database, seeded.id, ended.id, 3) == ended
    assert (await leads.get(database, seeded.id, ended.lead_id)).outcome is None


async def test_a_live_call_shows_where_it_is(database: Database, seeded: SeededAccount) -> None:
    """Status, node, outcome and resumes are written as they come; resumes do not count down."""
    await calls.set_status(database, seeded.id, seeded.call.id, "transferring")
    await calls.set_node(database, seeded.id, seeded.call.id, "verify")
    await calls.record_outcome(database, seeded.id, seeded.call.id, "promised")
    await calls.resumed(database, seeded.id, seeded.call.id, 2)
    call = await calls.resumed(database, seeded.id, seeded.call.id, 1)

    assert (call.status, call.node, call.outcome, call.resumes) == ("transferring", "verify", "promised", 2)
    assert (await leads.get(database, seeded.id, call.lead_id)).outcome == "promised"
    finished = await calls.finish(database, seeded.id, seeded.call.id, HANGUP)
    assert finished.call.outcome == "promised"


async def test_the_revision_a_call_began_with_stays(database: Database, seeded: SeededAccount) -> None:
    """Keeping another revision of a template that is kept already changes nothing."""
    await calls.keep_revisions(
        database, seeded.id, seeded.call.id, {seeded.front.id: 7, seeded.billing.id: 3}
    )
    call = await calls.keep_revisions(database, seeded.id, seeded.call.id, {seeded.billing.id: 4})

    assert call.revisions == {str(seeded.front.id): 1, str(seeded.billing.id): 3}


@pytest.mark.parametrize(
    ("reported", "kept"),
    [
        (["queued", "ringing", "in_progress", "completed"], "completed"),
        (["in_progress", "ringing", "queued"], "in_progress"),
        (["completed", "busy", "ringing", "failed"], "completed"),
        (["no_answer", "in_progress", "completed"], "no_answer"),
        (["ringing", "ringing"], "ringing"),
        (["failed"], "failed"),
    ],
)
async def test_a_terminal_status_of_the_carrier_wins(
    database: Database, seeded: SeededAccount, reported: list[CarrierStatus], kept: str
) -> None:
    """Callbacks out of order move the status forward only, and nothing follows a terminal one."""
    assert seeded.call.carrier_call_id is not None
    for status in reported:
        call = await carrier_calls.carrier_status(database, "twilio", seeded.call.carrier_call_id, status)

    assert call.carrier_status == kept


async def test_calls_are_listed_newest_first_and_narrowed(database: Database, seeded: SeededAccount) -> None:
    """Status, number, lead and template narrow the list."""
    second = (await inbound.begin(database, webhook(seeded.number.e164, "CA2"))).call
    ended = (await calls.finish(database, seeded.id, seeded.call.id, HANGUP)).call

    async def listed(where: CallFilter) -> list[object]:
        return [call.id for call in (await call_lists.list_calls(database, seeded.id, where, limit=10)).items]

    assert await listed(CallFilter()) == [second.id, ended.id]
    assert await listed(CallFilter(status="ended")) == [ended.id]
    assert await listed(CallFilter(lead_id=second.lead_id)) == [second.id]
    assert await listed(CallFilter(number_id=seeded.number.id, template_id=seeded.front.id)) == [
        second.id,
        ended.id,
    ]
    assert await listed(CallFilter(template_id=seeded.billing.id)) == []


async def test_a_call_that_does_not_exist_is_named(database: Database, seeded: SeededAccount) -> None:
    """Reading or changing an unknown call raises NotFound rather than doing nothing."""
    unknown = uuid4()

    with pytest.raises(NotFound, match=str(unknown)):
        await calls.get(database, seeded.id, unknown)
    with pytest.raises(NotFound):
        await calls.finish(database, seeded.id, unknown, HANGUP)
    with pytest.raises(NotFound):
        await calls.set_node(database, seeded.id, unknown, "start")
    with pytest.raises(NotFound):
        await carrier_calls.carrier_status(database, "twilio", "CA-unknown", "completed")


async def test_what_was_never_answered_has_no_duration(database: Database, seeded: SeededAccount) -> None:
    """A call that ends while it rings lasted for no time that anybody could bill."""
    assert (await calls.finish(database, seeded.id, seeded.call.id, HANGUP)).call.duration_ms is None
