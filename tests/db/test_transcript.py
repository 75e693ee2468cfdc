"""Utterances and events: the writes of a call's ordered writer, which may be repeated."""

import asyncio
import random
from dataclasses import replace
from datetime import timedelta

import pytest

from db import events, utterances
from db.errors import ConstraintViolated, SequenceTaken
from db.ids import new_id
from db.pool import Database
from tests.db.seed import SeededAccount, make_event, make_utterance


@pytest.fixture
def database(module_database: Database) -> Database:
    """The tests look at their own account only."""
    return module_database


async def test_an_utterance_grows_under_its_id(database: Database, seeded: SeededAccount) -> None:
    """Writing it again replaces text, what was heard, the interruption and the end."""
    first = make_utterance(seeded)
    grown = replace(
        first, text="I have a question about", heard_text="I have", interrupted=True, ended_ms=900
    )
    await utterances.record(database, first)
    await utterances.record(database, grown)
    await utterances.record(database, grown)

    assert await utterances.of_call(database, seeded.id, seeded.call.id) == [grown]


async def test_a_transcript_is_in_the_order_of_its_call(database: Database, seeded: SeededAccount) -> None:
    """Utterances and events are returned by seq, in whatever order they were written."""
    said = [make_utterance(seeded, seq=n) for n in range(10)]
    happened = [make_event(seeded, seq=n) for n in range(10)]
    for utterance in random.sample(said, 10):
        await utterances.record(database, utterance)
    for event in random.sample(happened, 10):
        await events.record(database, event)

    assert await utterances.of_call(database, seeded.id, seeded.call.id) == said
    assert await events.of_call(database, seeded.id, seeded.call.id) == happened


async def test_an_event_is_written_once_and_never_changed(database: Database, seeded: SeededAccount) -> None:
    """A repetition changes nothing, not even with other data."""
    event = make_event(seeded)
    await events.record(database, event)
    await events.record(database, event)
    await events.record(database, replace(event, data={"route": "forged"}))

    assert await events.of_call(database, seeded.id, seeded.call.id) == [event]


async def test_duplicate_seq_is_refused(database: Database, seeded: SeededAccount) -> None:
    """Another event or utterance with a used seq is refused."""
    await utterances.record(database, make_utterance(seeded))
    await events.record(database, make_event(seeded))

    with pytest.raises(SequenceTaken, match="utterance with seq 1"):
        await utterances.record(database, replace(make_utterance(seeded), id=new_id()))
    with pytest.raises(SequenceTaken, match="event with seq 1"):
        await events.record(database, replace(make_event(seeded), id=new_id()))


async def test_an_event_is_written_behind_the_others(database: Database, seeded: SeededAccount) -> None:
    """Appended events take the next free number, each once, however many writers append at a time."""
    await events.record(database, make_event(seeded, seq=1))
    late = [replace(make_event(seeded), id=new_id()) for _ in range(4)]
    await asyncio.gather(*(events.append(database, event) for event in late))
    await asyncio.gather(*(events.append(database, event) for event in late))

    written = await events.of_call(database, seeded.id, seeded.call.id)
    assert [event.seq for event in written] == [1, 2, 3, 4, 5]
    assert {event.id for event in written[1:]} == {event.id for event in late}


async def test_appended_event_is_not_earlier(database: Database, seeded: SeededAccount) -> None:
    """An appended event has a time that is not before the previous event."""
    first = make_event(seeded, seq=1)
    await events.record(database, first)
    await events.append(database, replace(first, id=new_id(), at=first.at - timedelta(seconds=1)))

    assert [event.at for event in await events.of_call(database, seeded.id, seeded.call.id)] == [first.at] * 2


@pytest.mark.parametrize("type", ["call.started", "barge_in", "provider.failed"])
async def test_a_type_of_the_interface_is_taken(database: Database, seeded: SeededAccount, type: str) -> None:
    """One word or two with a dot, in lower case."""
    await events.record(database, replace(make_event(seeded), type=type))

    assert [event.type for event in await events.of_call(database, seeded.id, seeded.call.id)] == [type]


@pytest.mark.parametrize("type", ["", "Call.Started", "a.b.c", "spoken words", "call.\n"])
async def test_a_malformed_type_is_refused(database: Database, seeded: SeededAccount, type: str) -> None:
    """Nothing that a caller says ends up as an event's type."""
    with pytest.raises(ConstraintViolated) as caught:
        await events.record(database, replace(make_event(seeded), type=type))

    assert caught.value.constraint == "events_type_form"
