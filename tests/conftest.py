"""Fixtures for the whole suite: a PostgreSQL server, a database for each worker, and new ones for tests.

All workers of a session share one embedded server. The first process of the session (the controller under
xdist) names its directory and removes it.

A test whose rows are all in accounts of its own uses `shared_dsn` and `shared_database`, which all tests of
the worker have in common. A test that needs an empty database, or that counts across accounts, uses `dsn` and
`database` (`tests/empty_databases.py`); one that changes the schema uses `new_database`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from db.embedded import EmbeddedServer
from db.ids import new_id
from db.migrate import migrate
from db.pool import Database
from tests.empty_databases import EmptyDatabases, NewDatabase
from tests.fork_server import ACCESS, SERVER, forked_workers
from tests.forked import ForkedChecks
from tests.watchdog import LoopWatchdog
from voicebot.authoring import check_pool

if sys.platform != "win32":
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # the server's loop, and a fifth less CPU time

_DIRECTORY = "VOICEBOT_TEST_SERVER_DIR"
_MIGRATED = "migrated"
# Tests need no durability, but many connections: some race for one row.
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "600",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "max_wal_size": "128MB",
    "dynamic_shared_memory_type": "mmap",
}


# The time of an example depends on what else the machine does, so that there is no deadline. Where CI is set
# in the environment, hypothesis plays the same examples in each run.
SLOW = [HealthCheck.too_slow]
settings.register_profile("short", deadline=None, suppress_health_check=SLOW, max_examples=25)
settings.register_profile("long", deadline=None, suppress_health_check=SLOW, max_examples=100)
settings.load_profile("short")


def pytest_xdist_auto_num_workers() -> int:
    """Return two workers for each core: a call runs in real time and mostly waits."""
    return (os.cpu_count() or 1) * 2


# Importing all tests makes 400,000 objects that live as long as the process. Collections that visit them
# again and again take a quarter of the time of the imports, and later stop the calls of a test for up to 2 s.
gc.disable()
_NEVER, _MANY = 1_000_000, 25


def pytest_collection_finish() -> None:
    """Exempt what the imports made from garbage collection, and collect garbage from now on.

    A full collection stops the calls of a test for up to 0.8 s, in which their audio does not go on. So there
    is none during a test.
    """
    gc.freeze()
    gc.set_threshold(5_000, 2, _NEVER)
    gc.enable()


def pytest_runtest_logfinish() -> None:
    """Collect garbage between two tests, if there have been as many partial collections as may make much."""
    if gc.get_count()[2] > _MANY:
        gc.collect()


LONG_RUN = "long or hypothesis"
"""The expression of markers in `make test-long`."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out of the long run, in every worker, the modules that have no test of it: more than half."""
    if collection_path.suffix == ".py" and config.getoption("markexpr") == LONG_RUN:
        return True if not _may_be_long(collection_path) else None
    return None


@cache
def _may_be_long(module: Path) -> bool:
    """Whether a module of tests or the `conftest.py` beside it names what the long run selects."""
    texts = [path.read_text() for path in (module, module.with_name("conftest.py")) if path.exists()]
    return any(word in text for word in ("mark.long", "hypothesis") for text in texts)


def _require_found(items: Sequence[pytest.Item], marker: str) -> None:
    for item in items:
        if item.get_closest_marker(marker) and not _may_be_long(item.path):
            raise pytest.UsageError(f"{item.nodeid}: `make test-long` would not find this test")


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Make sure that the long run finds what this one leaves to it."""
    _require_found(items, "long")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each worker its share of the tests with a timeout of their own, the longest, and not at its end.

    The scheduler gives each worker an equal part of the list before the workers steal from one another. Tests
    marked with the same `xdist_group` share what is expensive to start, and so a worker.
    """
    _require_found(items, "hypothesis")
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    groups: dict[str, list[pytest.Item]] = {}
    others: list[pytest.Item] = []
    for item in items:
        if item.get_closest_marker("timeout") is None:
            others.append(item)
            continue
        group = item.get_closest_marker("xdist_group")
        groups.setdefault(item.nodeid if group is None else str(group.kwargs["name"]), []).append(item)
    ordered: list[pytest.Item] = []
    for number in range(workers):
        share = (len(items) - len(ordered)) // (workers - number)
        longest = list(groups.values())[number::workers]
        between = max(0, share - sum(map(len, longest)))
        shorter = [others.pop() for _ in range(min(between, len(others)))]
        ordered += _spread(longest, shorter)
    items[:] = ordered + others


def _spread(longest: Sequence[Sequence[pytest.Item]], shorter: list[pytest.Item]) -> list[pytest.Item]:
    """Put the longest tests of a worker among the first two thirds of its others.

    They need most of the processor, and fewer of them run at once then.
    """
    every = len(shorter) * 2 // 3 // max(1, len(longest))
    spread: list[pytest.Item] = []
    for group in longest:
        spread += [*group, *(shorter.pop() for _ in range(every))]
    return spread + shorter


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of the watchdog over the event loop."""
    text = "fail a test of the API or of calls in which a step of a task takes more than 50 ms of CPU time"
    parser.addoption("--loop-watchdog", action="store_true", help=text)


_WATCHED = ("api", "calls")
"""Directories of the tests that the watchdog judges. Others use parts of a server that has not prepared what
it imports and compiles; they start no server that these use, since a `conftest.py` is for its own directory.
"""

_WATCHDOG = LoopWatchdog()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Watch the tasks that begin in a test that is judged; to watch those of others would take time."""
    _WATCHDOG.is_watching = item.path.parent.name in _WATCHED


@pytest.fixture(scope="session", autouse=True)
async def loop_watchdog(pytestconfig: pytest.Config) -> AsyncIterator[LoopWatchdog | None]:
    """The watchdog over the event loop of all tests, if it is on."""
    if not pytestconfig.getoption("--loop-watchdog"):
        yield None
        return
    uninstall = _WATCHDOG.install(asyncio.get_running_loop())
    yield _WATCHDOG
    uninstall()


@pytest.fixture(autouse=True)
def no_slow_step(loop_watchdog: LoopWatchdog | None, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test of the API or of calls in which a step took too much CPU time."""
    yield
    if loop_watchdog is not None and loop_watchdog.slow:
        slow, loop_watchdog.slow = loop_watchdog.slow, []
        if request.path.parent.name in _WATCHED:
            pytest.fail("\n\n".join(slow), pytrace=False)


def pytest_configure(config: pytest.Config) -> None:
    """Choose the directory of the database server, and fork workers; they inherit it in the environment."""
    if hasattr(config, "workerinput"):
        SERVER.inherit(os.environ[ACCESS])
        return
    # The directory is made by the first test that needs it.
    os.environ[_DIRECTORY] = str(Path(in_memory() or tempfile.gettempdir(), f"voicebot-tests-{new_id()}"))
    if config.option.tx:
        config.option.tx = forked_workers(len(config.option.tx))


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Have hypothesis store what it knows of Unicode, which costs each worker 3 s of CPU time otherwise."""
    if not hasattr(session.config, "workerinput"):
        st.text().validate()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the directory when the last worker is done."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(_DIRECTORY), ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def forked_checks() -> Iterator[None]:
    """Fork the process for checks of servers in this process: to start it takes a second of CPU time."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(check_pool, "start_process", ForkedChecks)
        yield


@pytest.fixture(scope="session")
async def server_dsn() -> AsyncIterator[str]:
    """DSN of the database server, in which a migrated database to clone exists."""
    async with EmbeddedServer(os.environ[_DIRECTORY], settings=_SETTINGS) as dsn:
        await _make_migrated(dsn)
        yield dsn


@pytest.fixture(scope="session")
async def new_database(server_dsn: str) -> AsyncIterator[NewDatabase]:
    """Clones the migrated database; the clone is dropped at the end. One connection makes all of a worker."""
    server = await asyncpg.connect(server_dsn)

    @contextlib.asynccontextmanager
    async def cloned() -> AsyncIterator[str]:
        name = f"test_{new_id().hex}"
        await server.execute(f"CREATE DATABASE {name} TEMPLATE {_MIGRATED} STRATEGY FILE_COPY")
        try:
            yield _database(server_dsn, name)
        finally:
            await server.execute(f"DROP DATABASE {name} WITH (FORCE)")

    try:
        yield cloned
    finally:
        await server.close()


@pytest.fixture(scope="session")
async def shared_dsn(new_database: NewDatabase) -> AsyncIterator[str]:
    """DSN of a database that the tests of this worker share."""
    async with new_database() as dsn:
        yield dsn


@pytest.fixture(scope="session")
async def shared_database(shared_dsn: str) -> AsyncIterator[Database]:
    """Pool on the database that the tests of this worker share."""
    opened = await Database.connect(shared_dsn)
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture(scope="session")
async def empty_databases(new_database: NewDatabase) -> AsyncIterator[EmptyDatabases]:
    """The database that tests of this worker use one after the other."""
    databases = EmptyDatabases(new_database)
    yield databases
    await databases.close()


@pytest.fixture
async def empty_database(empty_databases: EmptyDatabases) -> AsyncIterator[Database]:
    """Pool on a migrated database that is empty."""
    async with empty_databases.lend() as lent:
        yield lent


@pytest.fixture
def dsn(empty_database: Database) -> str:
    """DSN of a migrated database that is empty."""
    return empty_database.dsn


@pytest.fixture
def database_url(dsn: str) -> str:
    """The same DSN, under the name of the environment variable."""
    return dsn


@pytest.fixture
def database(empty_database: Database) -> Database:
    """Pool on a migrated database that is empty."""
    return empty_database


def in_memory() -> str | None:
    """Return a directory in memory if it has room: there a database (300 files) is cloned faster."""
    shared = Path("/dev/shm")  # noqa: S108
    if os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 2**30:
        return str(shared)
    return None


async def _make_migrated(server_dsn: str) -> None:
    """Make the migrated database, once for all workers."""
    server = await asyncpg.connect(server_dsn)
    try:
        await server.execute("SELECT pg_advisory_lock(1)")
        if not await server.fetchval("SELECT true FROM pg_database WHERE datname = $1", _MIGRATED):
            building = f"building_{new_id().hex}"
            await server.execute(f"CREATE DATABASE {building}")
            await migrate(_database(server_dsn, building))
            await server.execute(f"ALTER DATABASE {building} RENAME TO {_MIGRATED}")
    finally:
        await server.close()


def _database(server_dsn: str, name: str) -> str:
    return urlsplit(server_dsn)._replace(path=f"/{name}").geturl()
