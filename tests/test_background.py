"""Background tasks: voicebot.background."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from loguru import logger

from voicebot.background import BackgroundTasks


@pytest.fixture
def log() -> Iterator[list[str]]:
    messages: list[str] = []
    sink = logger.add(lambda message: messages.append(message.record["message"]), level="WARNING")
    yield messages
    logger.remove(sink)


async def fail() -> None:
    raise ValueError("no such thing")


async def test_a_failure_is_logged_with_the_owner_and_the_name(log: list[str]) -> None:
    """The failure of a task is logged with its owner, its name and the exception."""
    tasks = BackgroundTasks("call 7")
    tasks.start(fail(), name="reading a file")
    await tasks.finish()
    assert log == ["call 7: reading a file failed: ValueError: no such thing"]


async def test_on_failure_replaces_the_log(log: list[str]) -> None:
    """An owner with on_failure is given the name and the exception, and nothing is logged."""
    failures: list[tuple[str, BaseException]] = []
    tasks = BackgroundTasks(on_failure=lambda name, error: failures.append((name, error)))
    tasks.start(fail(), name="reading")
    await tasks.finish()
    [(name, error)] = failures
    assert name == "reading"
    assert isinstance(error, ValueError)
    assert log == []


async def test_one_failure_does_not_stop_another_task() -> None:
    """A task that fails leaves the others running."""
    tasks = BackgroundTasks()
    done = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0)
        done.set()

    tasks.start(work(), name="work")
    tasks.start(fail(), name="failure")
    await tasks.finish()
    assert done.is_set()


async def test_cancel_ends_droppable_tasks_only(log: list[str]) -> None:
    """Cancel ends the droppable tasks and leaves the others; a cancelled task is no failure."""
    tasks = BackgroundTasks()
    proceed = asyncio.Event()
    dropped = tasks.start(asyncio.Event().wait(), name="droppable", droppable=True)
    kept = tasks.start(proceed.wait(), name="kept")
    await tasks.cancel()
    assert dropped.cancelled()
    assert not kept.done()
    proceed.set()
    await tasks.finish()
    assert await kept
    assert log == []


async def test_a_droppable_task_may_cancel_the_others() -> None:
    """A droppable task that calls cancel or finish is neither cancelled nor awaited by its own call."""
    tasks = BackgroundTasks()
    other = tasks.start(asyncio.Event().wait(), name="other", droppable=True)
    caller = tasks.start(tasks.finish(), name="caller", droppable=True)
    await caller
    assert other.cancelled()


async def test_finish_waits_for_tasks_that_are_not_droppable() -> None:
    """Finish returns after the tasks that may not be dropped, and returns at once when there are none."""
    tasks = BackgroundTasks()
    await tasks.finish()
    task = tasks.start(asyncio.sleep(0.01, "written"), name="writing")
    await tasks.finish(timeout_s=30.0)
    assert task.done()
    assert task.result() == "written"


async def test_finish_cancels_what_exceeds_the_timeout(log: list[str]) -> None:
    """A task that takes longer than the timeout is cancelled, with a warning that names it."""
    tasks = BackgroundTasks("server")
    task = tasks.start(asyncio.Event().wait(), name="endless")
    await tasks.finish(timeout_s=0.01)
    assert task.cancelled()
    assert log == ["server: endless: cancelled after 0.01 s"]


async def test_a_supervised_job_starts_again_after_a_failure() -> None:
    """A supervised job runs again after it failed; each failure is reported under its name."""
    failures: list[str] = []
    tasks = BackgroundTasks(on_failure=lambda name, _: failures.append(name))
    third_run = asyncio.Event()
    runs = 0

    async def job() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ValueError
        third_run.set()
        await asyncio.Event().wait()

    tasks.supervise(job, name="listener", pause_s=0.0)
    await third_run.wait()
    await tasks.finish()
    assert failures == ["listener", "listener"]


async def test_a_supervised_job_starts_again_when_it_returns() -> None:
    """A supervised job that returns runs again, until it is cancelled."""
    tasks = BackgroundTasks()
    third_run = asyncio.Event()
    runs = 0

    async def job() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            third_run.set()

    task = tasks.supervise(job, name="scheduler", pause_s=0.0)
    await third_run.wait()
    await tasks.cancel()
    assert task.cancelled()


async def test_until_done_ends_with_the_first_run_that_returns() -> None:
    """With until_done a job runs again after a failure and ends when a run returns."""
    failures: list[str] = []
    tasks = BackgroundTasks(on_failure=lambda name, _: failures.append(name))
    runs = 0

    async def job() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError

    await tasks.supervise(job, name="journal", pause_s=0.0, until_done=True)
    assert runs == 2
    assert failures == ["journal"]
