"""Items that arrive while a statement runs share the next one, and each gets its own result."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from db.errors import DatabaseError, DatabaseUnavailable, InvalidValue
from tests.call.virtual_time import virtual_time
from voicebot import batches
from voicebot.background import BackgroundTasks
from voicebot.batches import Batches


@dataclass
class Store:
    """Doubles numbers once it is released; refuses negative ones."""

    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)
    statements: list[list[int]] = field(default_factory=list)
    error: DatabaseError = field(default_factory=lambda: InvalidValue("negative"))

    async def store(self, items: Sequence[int]) -> Sequence[int]:
        """One statement."""
        self.statements.append(list(items))
        await self.may_go_on.wait()
        if min(items) < 0:
            raise self.error
        return [2 * item for item in items]


def made(store: Store) -> Batches[int, int]:
    """The batches of a store."""
    return Batches(store.store, BackgroundTasks("test"), "numbers")


async def test_what_arrives_meanwhile_shares_a_statement() -> None:
    """The first item does not wait for others; the following ones are stored together, in order."""
    store = Store()
    numbers = made(store)
    first = numbers.put(1)
    await asyncio.sleep(0)
    others = [numbers.put(number) for number in (2, 3, 4)]
    store.may_go_on.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6, 8]
    assert store.statements == [[1], [2, 3, 4]]
    assert await numbers.put(5) == 10


def test_statements_have_a_shortest_interval() -> None:
    """The first item is stored at once; what arrives until the interval is over shares a statement."""
    store = Store()

    async def put() -> None:
        store.may_go_on.set()
        numbers = Batches(store.store, BackgroundTasks("test"), "numbers", interval_s=0.1)
        for number in range(5):
            numbers.put(number)
            await asyncio.sleep(0.03)
        await numbers.put(5)
        await asyncio.sleep(1)
        await numbers.put(6)

    with virtual_time() as loop:
        loop.play(put())
    assert store.statements == [[0], [1, 2, 3], [4, 5], [6]]


async def test_a_statement_gets_a_limited_number_of_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items beyond the limit of a statement are stored by the next one."""
    monkeypatch.setattr(batches, "MOST_AT_ONCE", 2)
    store = Store()
    store.may_go_on.set()
    numbers = made(store)
    assert await asyncio.gather(*(numbers.put(number) for number in range(5))) == [0, 2, 4, 6, 8]
    assert store.statements == [[0, 1], [2, 3], [4]]


async def test_an_item_that_cannot_be_stored_fails_alone() -> None:
    """After an error that repetition cannot mend each item of the statement is stored by itself."""
    store = Store()
    store.may_go_on.set()
    numbers = made(store)
    found = await asyncio.gather(*(numbers.put(number) for number in (1, -2, 3)), return_exceptions=True)
    assert [found[0], type(found[1]), found[2]] == [2, InvalidValue, 6]
    assert store.statements == [[1, -2, 3], [1], [-2], [3]]


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), ValueError("a defect")])
async def test_other_errors_are_those_of_all_items(error: Exception) -> None:
    """Each who waits gets an error that may pass, or a defect; later items are stored."""
    store = Store(error=error)  # type: ignore[arg-type]
    store.may_go_on.set()
    numbers = made(store)
    found = await asyncio.gather(*(numbers.put(number) for number in (1, -2)), return_exceptions=True)
    assert found == [error, error]
    assert await numbers.put(3) == 6


async def test_an_item_is_stored_although_nobody_waits() -> None:
    """Who waits may be cancelled; the others get their results."""
    store = Store()
    numbers = made(store)
    left, kept = numbers.put(1), numbers.put(2)
    await asyncio.sleep(0)
    left.cancel()
    store.may_go_on.set()
    assert await kept == 4
    assert store.statements == [[1, 2]]


async def test_nobody_waits_for_a_process_that_stops() -> None:
    """When the statement is cancelled, so are those who wait for it and for later ones."""
    store, background = Store(), BackgroundTasks("test")
    numbers = Batches(store.store, background, "numbers")
    first = numbers.put(1)
    await asyncio.sleep(0)
    later = numbers.put(2)
    await background.finish(0)
    assert first.cancelled()
    assert later.cancelled()
