from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from db import calls, leads, routes, templates
from db.errors import ConstraintViolated, NotFound, SequenceTaken
from db.ids import new_id
from db.pool import Database
from tests.db.seed import NOON, SeededAccount, draft, make_route


@pytest.fixture
def database(module_database: Database) -> Database:
    """The tests look at their own account only."""
    return module_database


async def where(database: Database, seeded: SeededAccount) -> tuple[object, object, object]:
    call = await calls.get(database, seeded.id, seeded.call.id)
    lead = await leads.get(database, seeded.id, call.lead_id)
    return call.template_id, call.node, lead.template_id


async def test_a_route_moves_call_and_lead_with_its_row(database: Database, seeded: SeededAccount) -> None:
    """After a done route both are with the target, the call at its first node; the lead shows the route."""
    route = make_route(seeded)
    await routes.complete(database, route)

    assert await where(database, seeded) == (seeded.billing.id, "greet", seeded.billing.id)
    lead = await leads.get(database, seeded.id, seeded.call.lead_id)
    assert lead.routes == (route,)
    assert lead.initial_template_id == seeded.front.id


async def test_a_route_that_cannot_be_written_moves_nobody(database: Database, seeded: SeededAccount) -> None:
    """Row and move are one: without the one the other does not happen."""
    with pytest.raises(ConstraintViolated):
        await routes.complete(database, replace(make_route(seeded), from_template_id=uuid4()))

    assert await where(database, seeded) == (seeded.front.id, None, seeded.front.id)


async def test_a_repeated_route_is_one_route(database: Database, seeded: SeededAccount) -> None:
    """Writing it again changes neither the row nor the node that the flow has reached since."""
    route = make_route(seeded)
    await routes.complete(database, route)
    await calls.set_node(database, seeded.id, seeded.call.id, "verify")
    await routes.complete(database, route)

    assert await routes.of_call(database, seeded.id, seeded.call.id) == [route]
    assert await where(database, seeded) == (seeded.billing.id, "verify", seeded.billing.id)


async def test_a_late_repetition_does_not_undo_a_later_route(
    database: Database, seeded: SeededAccount
) -> None:
    """Call and lead have the last route's target, in whatever order the writes arrive."""
    shipping = await templates.create(database, seeded.id, draft("shipping"))
    first = make_route(seeded)
    second = replace(
        make_route(seeded, seq=2),
        from_template_id=seeded.billing.id,
        to_template_id=shipping.id,
        to_node="hello",
    )
    await routes.complete(database, first)
    await routes.complete(database, second)
    await routes.complete(database, first)

    assert await where(database, seeded) == (shipping.id, "hello", shipping.id)


async def test_route_after_the_end_is_stored_in_the_lead(database: Database, seeded: SeededAccount) -> None:
    """A route written after the call's end is stored in the lead."""
    end = calls.CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=NOON)
    await calls.finish(database, seeded.id, seeded.call.id, end)
    await routes.complete(database, make_route(seeded))

    assert await where(database, seeded) == (seeded.billing.id, "greet", seeded.billing.id)


async def test_a_refused_route_moves_nobody(database: Database, seeded: SeededAccount) -> None:
    """It is a row with its error code and, when the name leads nowhere, no target."""
    refused = replace(
        make_route(seeded),
        status="refused",
        error_code="unknown_agent",
        to_template_id=None,
        to_node=None,
        switched_at=None,
    )
    await routes.record(database, refused)
    await routes.record(database, refused)

    assert await routes.of_call(database, seeded.id, seeded.call.id) == [refused]
    assert await where(database, seeded) == (seeded.front.id, None, seeded.front.id)


async def test_a_done_route_has_a_target(database: Database, seeded: SeededAccount) -> None:
    """The schema refuses a move to nowhere."""
    with pytest.raises(ConstraintViolated) as caught:
        await routes.complete(database, replace(make_route(seeded), to_template_id=None))

    assert caught.value.constraint == "routes_done_has_target"


async def test_the_gap_is_added_when_it_is_known_and_stays(database: Database, seeded: SeededAccount) -> None:
    """First audio and gap come later, and a repetition of the route without them does not erase them."""
    route = make_route(seeded)
    heard = NOON + timedelta(milliseconds=40)
    await routes.complete(database, route)
    await routes.measured(database, seeded.id, route.id, first_audio_at=heard, gap_ms=40)
    await routes.complete(database, route)

    assert await routes.of_call(database, seeded.id, seeded.call.id) == [
        replace(route, first_audio_at=heard, gap_ms=40)
    ]
    with pytest.raises(NotFound):
        await routes.measured(database, seeded.id, uuid4(), first_audio_at=heard, gap_ms=40)


async def test_two_routes_of_one_number_are_refused(database: Database, seeded: SeededAccount) -> None:
    """Two writers that count for one call are found out."""
    await routes.complete(database, make_route(seeded))

    with pytest.raises(SequenceTaken):
        await routes.complete(database, replace(make_route(seeded), id=new_id()))
