"""The pool of checks: one at a time, in turns of the accounts, with limits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from db.ids import new_id
from voicebot.authoring import CheckPool, TooManyChecks

ONE, OTHER = new_id(), new_id()


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """An event for which checks wait; it is set at the end, so that the thread ends."""
    event = threading.Event()
    yield event
    event.set()


async def test_checks_run_one_at_a_time_outside_the_event_loop() -> None:
    """Checks of one or several accounts never overlap, and never run in the thread of the event loop."""
    pool, running = CheckPool(), list[int]()

    def check(number: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        running.append(number)
        assert len(running) == 1
        running.remove(number)
        return number

    accounts = (ONE, OTHER)
    results = await asyncio.gather(*(pool.run(accounts[n % 2], check, n) for n in range(20)))
    assert results == list(range(20))


async def test_accounts_take_turns(release: threading.Event) -> None:
    """A check of one account waits for at most one check of another, however many that one has waiting."""
    pool, order = CheckPool(), list[str]()
    first = asyncio.create_task(pool.run(ONE, release.wait))
    many = [asyncio.create_task(pool.run(ONE, order.append, "one")) for _ in range(30)]
    await asyncio.sleep(0.01)
    few = asyncio.create_task(pool.run(OTHER, order.append, "other"))
    await asyncio.sleep(0.01)
    release.set()
    await asyncio.gather(first, *many, few)
    assert order.index("other") <= 1


async def test_an_account_may_have_a_limited_number_of_checks(release: threading.Event) -> None:
    """Beyond the limit a check is refused at once; those of other accounts are not."""
    pool = CheckPool(max_waiting=2)
    waiting = [asyncio.create_task(pool.run(ONE, release.wait)) for _ in range(2)]
    await asyncio.sleep(0.01)
    with pytest.raises(TooManyChecks):
        await pool.run(ONE, str)
    other = asyncio.create_task(pool.run(OTHER, str, 5))
    await asyncio.sleep(0.01)
    release.set()
    await asyncio.gather(*waiting)
    assert await other == "5"
    assert await pool.run(ONE, str, 6) == "6"


async def test_a_check_waits_for_a_limited_time(release: threading.Event) -> None:
    """A check that does not get its turn in time is refused, and the next one gets its turn."""
    pool = CheckPool(wait_s=0.05)
    running = asyncio.create_task(pool.run(ONE, release.wait))
    await asyncio.sleep(0.01)
    for account in (ONE, OTHER):
        with pytest.raises(TooManyChecks):
            await pool.run(account, str)
    release.set()
    await running
    assert await pool.run(OTHER, str, 7) == "7"


async def test_cancelled_check_keeps_its_turn_until_the_thread_is_free(release: threading.Event) -> None:
    """A request that is cancelled while its check runs does not let a second check start."""
    pool, began = CheckPool(), list[int]()
    running = asyncio.create_task(pool.run(ONE, release.wait))
    await asyncio.sleep(0.01)
    running.cancel()
    following = asyncio.create_task(pool.run(OTHER, began.append, 1))
    await asyncio.sleep(0.05)
    assert began == []
    release.set()
    await following
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_exception_of_a_check_is_raised() -> None:
    """The caller gets the exception of the function, and the pool goes on."""
    pool = CheckPool()
    with pytest.raises(ValueError, match="invalid literal"):
        await pool.run(ONE, int, "x")
    assert await pool.run(ONE, int, "1") == 1
