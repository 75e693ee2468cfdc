"""The pool of checks: a process of its own, one check at a time, in turns of the accounts, with limits."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from db.ids import new_id
from templates.check import check_document
from tests.authoring import checks_in_a_process as checks
from voicebot.authoring import CheckPool, InvalidTemplate, TooManyChecks, check_pool
from voicebot.authoring.check_worker import CheckFailed
from voicebot.authoring.documents import read_document
from voicebot.providers.registry import DECLARED

ONE, OTHER = new_id(), new_id()
START = check_pool.start_process


@pytest.fixture(autouse=True, scope="module")
def started_processes() -> Iterator[None]:
    """Start processes here as the server does; other tests fork them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(check_pool, "start_process", START)
        yield


@pytest.fixture(scope="module")
async def pool() -> AsyncIterator[CheckPool]:
    """A pool that tests use one after the other."""
    made = CheckPool()
    yield made
    await made.close()


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A file that checks wait for."""
    return tmp_path / "release"


async def begun(task: asyncio.Task[object]) -> None:
    """Let a task get its turn, as far as nothing else has it."""
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()


async def test_checks_run_one_at_a_time_in_a_process_of_their_own(pool: CheckPool, tmp_path: Path) -> None:
    """Checks of one or several accounts never overlap, and run in one process with a lower priority."""
    accounts = (ONE, OTHER)
    overlaps = await asyncio.gather(
        *(pool.run(accounts[n % 2], checks.overlapping, tmp_path) for n in range(20))
    )
    assert not any(overlaps)
    first, second = await pool.run(ONE, checks.process_id), await pool.run(OTHER, checks.process_id)
    assert first == second != os.getpid()
    assert await pool.run(ONE, checks.niceness) > os.nice(0)


async def test_the_process_for_checks_has_neither_pipecat_nor_fastapi(pool: CheckPool) -> None:
    """Also after a check with all providers, the process needs little time to start and little memory."""
    report = await pool.run(ONE, read_document, {"name": "Acme", "prompt": "x"})
    assert report.name == "Acme"
    assert await pool.run(ONE, len, DECLARED) == 3
    assert not {"pipecat", "fastapi", "numpy"} & await pool.run(ONE, checks.modules)


async def test_accounts_take_turns(pool: CheckPool, release: Path, tmp_path: Path) -> None:
    """A check of one account waits for at most one check of another, however many that one has waiting."""
    log = tmp_path / "log"
    first = asyncio.create_task(pool.run(ONE, checks.wait_for, release))
    await begun(first)
    many = [asyncio.create_task(pool.run(ONE, checks.note, log, "one")) for _ in range(30)]
    await begun(many[-1])
    few = asyncio.create_task(pool.run(OTHER, checks.note, log, "other"))
    await begun(few)
    checks.touch(release)
    await asyncio.gather(first, *many, few)
    assert checks.words(log).index("other") <= 1


async def test_an_account_may_have_a_limited_number_of_checks(release: Path) -> None:
    """Beyond the limit a check is refused at once; those of other accounts are not."""
    pool = CheckPool(max_waiting=2)
    waiting = [asyncio.create_task(pool.run(ONE, checks.wait_for, release)) for _ in range(2)]
    await begun(waiting[-1])
    with pytest.raises(TooManyChecks):
        await pool.run(ONE, str)
    other = asyncio.create_task(pool.run(OTHER, str, 5))
    await begun(other)
    checks.touch(release)
    await asyncio.gather(*waiting)
    assert await other == "5"
    assert await pool.run(ONE, str, 6) == "6"
    await pool.close()


async def test_a_check_waits_for_a_limited_time(release: Path) -> None:
    """A check that does not get its turn in time is refused, and the next one gets its turn."""
    pool = CheckPool(wait_s=0.05)
    running = asyncio.create_task(pool.run(ONE, checks.wait_for, release))
    await begun(running)
    for account in (ONE, OTHER):
        with pytest.raises(TooManyChecks):
            await pool.run(account, str)
    checks.touch(release)
    await running
    assert await pool.run(OTHER, str, 7) == "7"
    await pool.close()


async def test_a_cancelled_check_keeps_its_turn_until_the_process_is_free(
    pool: CheckPool, release: Path
) -> None:
    """A request that is cancelled while its check runs does not let a second check start."""
    running = asyncio.create_task(pool.run(ONE, checks.wait_for, release))
    await begun(running)
    running.cancel()
    following = asyncio.create_task(pool.run(OTHER, checks.process_id))
    await asyncio.sleep(0.05)
    assert not following.done()
    checks.touch(release)
    assert await following
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_check_beyond_its_time_budget_is_killed(tmp_path: Path) -> None:
    """A check that takes too long is refused and its process killed; the next check has another process."""
    pool, log = CheckPool(budget_s=2), tmp_path / "log"
    while not (noted := checks.words(log)):  # a busy machine may not have let it begin
        with pytest.raises(TooManyChecks, match="too long"):
            await pool.run(ONE, checks.forever, log)
    [stuck] = noted
    with pytest.raises(ProcessLookupError):
        os.kill(int(stuck), 0)
    assert await pool.run(ONE, checks.process_id) != int(stuck)
    await pool.close()


async def test_a_process_that_is_killed_is_replaced(pool: CheckPool, tmp_path: Path) -> None:
    """A check whose process dies is done again in a new one; one that kills each process is refused."""
    before = await pool.run(ONE, checks.process_id)
    assert await pool.run(ONE, checks.die_once, tmp_path / "marker") != before
    with pytest.raises(TooManyChecks):
        await pool.run(ONE, checks.die)
    after = await pool.run(ONE, checks.process_id)
    os.kill(after, signal.SIGKILL)
    assert await pool.run(ONE, checks.process_id) != after


async def test_the_server_is_not_forked_for_its_process() -> None:
    """To fork a server stops the audio of its calls while its page tables are copied."""
    forks: list[str] = []
    os.register_at_fork(before=lambda: forks.append("forked"))
    pool = CheckPool()
    assert await pool.run(ONE, checks.process_id) != os.getpid()
    await pool.close()
    assert forks == []


async def test_a_signal_to_the_process_group_does_not_end_the_process(pool: CheckPool) -> None:
    """SIGTERM and SIGINT, which a whole group gets when a server drains, leave the process for checks."""
    process = await pool.run(ONE, checks.process_id)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(process, number)
    assert await pool.run(ONE, checks.process_id) == process


async def test_a_closed_pool_ends_its_process(release: Path) -> None:
    """Closing kills the process; the check that runs, and later ones, are refused."""
    pool = CheckPool()
    process = await pool.run(ONE, checks.process_id)
    running = asyncio.create_task(pool.run(ONE, checks.wait_for, release))
    await begun(running)
    await pool.close()
    for check in (running, pool.run(ONE, checks.process_id)):
        with pytest.raises(TooManyChecks):
            await check
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


async def test_exceptions_of_a_check_are_raised(pool: CheckPool) -> None:
    """The caller gets the exception of the function; of one that cannot be sent, its type."""
    with pytest.raises(ValueError, match="invalid literal"):
        await pool.run(ONE, int, "x")
    with pytest.raises(CheckFailed, match="Unpicklable"):
        await pool.run(ONE, checks.fail)
    document = {"name": 1, "kind": "x"}
    with pytest.raises(InvalidTemplate) as refused:
        await pool.run(ONE, read_document, document)
    assert refused.value.problems == check_document(document)[1].errors
    assert str(refused.value) == f"The template has {len(refused.value.problems)} faults."
    assert await pool.run(ONE, int, "1") == 1


async def test_what_a_check_prints_is_no_result(pool: CheckPool) -> None:
    """Standard output of the functions does not come between the results."""
    assert await pool.run(ONE, checks.printing) == "printed"
