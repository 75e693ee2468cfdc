import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from db.embedded import EmbeddedServer, EmbeddedServerError
from db.errors import DatabaseUnavailable
from db.pool import Database
from tests.conftest import in_memory

FAST = {"fsync": "off", "dynamic_shared_memory_type": "mmap"}
HOLD = """
import asyncio, concurrent.futures.thread, os, sys
from db.embedded import EmbeddedServer
if len(sys.argv) > 2:
    # Only now: the interpreter may be where that user cannot read it.
    os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
async def hold():
    async with EmbeddedServer(sys.argv[1], settings={"dynamic_shared_memory_type": "mmap"}) as dsn:
        print(dsn, flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(hold())
"""
ROOT = os.geteuid() == 0
NOBODY = 65534
USERS = [None, NOBODY] if ROOT else [None]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory that any user may pass through, unlike pytest's own."""
    directory = Path(tempfile.mkdtemp(prefix="voicebot-embedded-", dir=in_memory()))
    directory.chmod(0o755)
    yield directory / "data"
    shutil.rmtree(directory)


@contextlib.asynccontextmanager
async def another_process(
    data_dir: Path, uid: int | None = None
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A process that uses the server until its standard input is closed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD, str(data_dir), *([] if uid is None else [str(uid)]),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        process.stdin.close()
        await process.wait()


async def asked(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def until_silent(dsn: str) -> None:
    """Wait until a server that was killed is gone."""
    with contextlib.suppress(OSError, asyncpg.PostgresConnectionError):
        while True:
            await asked(dsn, "SELECT 1")


def postmaster_pid(data_dir: Path) -> int | None:
    try:
        return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
    except FileNotFoundError:
        return None


async def test_data_survives_a_stop(data_dir: Path) -> None:
    """What one run wrote, the next one reads, and between them no server runs."""
    async with EmbeddedServer(data_dir, settings=FAST) as dsn:
        await asked(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert postmaster_pid(data_dir) is None

    async with EmbeddedServer(data_dir, settings=FAST) as dsn:
        assert await asked(dsn, "SELECT answer FROM kept") == 42


async def test_processes_that_start_at_once_share_one_server(data_dir: Path) -> None:
    """Three processes on a fresh directory all get the same server; it stops with the last of them."""
    async with contextlib.AsyncExitStack() as stack:
        others = await asyncio.gather(
            *(stack.enter_async_context(another_process(data_dir)) for _ in range(2)),
        )
        async with EmbeddedServer(data_dir, settings=FAST) as dsn:
            assert {said for _, said in others} == {dsn}
        pid = postmaster_pid(data_dir)
        assert pid is not None
        os.kill(pid, 0)
    assert postmaster_pid(data_dir) is None


async def test_two_users_in_one_process_share_one_server(data_dir: Path) -> None:
    """The first to leave does not take the server from the second."""
    async with EmbeddedServer(data_dir, settings=FAST) as first:
        async with EmbeddedServer(data_dir) as second:
            assert first == second
        assert await asked(first, "SELECT 1") == 1
    assert postmaster_pid(data_dir) is None


async def test_a_killed_owner_leaves_nothing_stale(data_dir: Path) -> None:
    """After kill -9 of its only user the next one takes the server over, and stops it when it leaves."""
    async with another_process(data_dir) as (process, dsn):
        await asked(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        process.kill()
        await process.wait()

    async with EmbeddedServer(data_dir, settings=FAST) as dsn:
        assert await asked(dsn, "SELECT answer FROM kept") == 42
    assert postmaster_pid(data_dir) is None


async def test_a_killed_server_recovers(data_dir: Path) -> None:
    """After kill -9 of PostgreSQL itself the next start recovers what was committed."""
    async with another_process(data_dir) as (process, dsn):
        await asked(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        process.kill()
        await process.wait()
        pid = postmaster_pid(data_dir)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until_silent(dsn)

    async with EmbeddedServer(data_dir, settings=FAST) as dsn:
        assert await asked(dsn, "SELECT answer FROM kept") == 42


async def test_pid_file_of_another_process_is_ignored(data_dir: Path) -> None:
    """A pid file whose id belongs to another process does not prevent a start."""
    async with EmbeddedServer(data_dir, settings=FAST):
        left = (data_dir / "postgres" / "postmaster.pid").read_text().splitlines()
    left[0] = str(os.getpid())
    (data_dir / "postgres" / "postmaster.pid").write_text("\n".join(left) + "\n")

    async with EmbeddedServer(data_dir, settings=FAST) as dsn:
        assert await asked(dsn, "SELECT 1") == 1


async def test_a_pool_outlives_a_restart_of_its_server(data_dir: Path) -> None:
    """While the server is away a statement fails at once and says so; when it is back the same pool works."""
    async with EmbeddedServer(data_dir, settings=FAST) as dsn:
        database = await Database.connect(dsn)
    async with asyncio.timeout(3):
        with pytest.raises(DatabaseUnavailable):
            await database.ping()
        with pytest.raises(DatabaseUnavailable):
            await database.ping()

    async with EmbeddedServer(data_dir, settings=FAST):
        await database.ping()
        await database.close()


@pytest.mark.parametrize("uid", USERS)
async def test_it_works_for_root_and_for_an_ordinary_user(data_dir: Path, uid: int | None) -> None:
    """The server never runs as root, also when root starts it."""
    if uid is not None:
        os.chown(data_dir.parent, uid, uid)

    async with another_process(data_dir, uid) as (_, dsn):
        assert await asked(dsn, "SELECT 1") == 1
        assert (data_dir / "postgres").stat().st_uid != 0
        assert (data_dir / "postgres").stat().st_mode & 0o077 == 0
    assert postmaster_pid(data_dir) is None


@pytest.mark.parametrize("uid", USERS)
async def test_the_data_directory_is_private(data_dir: Path, uid: int | None) -> None:
    """Its mode is 0700; if root starts the server, only the group of the server's user may pass through."""
    if uid is not None:
        os.chown(data_dir.parent, uid, uid)

    async with another_process(data_dir, uid):
        mode = await asyncio.to_thread(lambda: data_dir.stat().st_mode & 0o777)
    assert mode == (0o710 if ROOT and uid is None else 0o700)


@pytest.mark.parametrize("name", ["with space and 'quotes'", "long" * 30])
async def test_any_directory_will_do(data_dir: Path, name: str) -> None:
    """A path with spaces and quotes works, and so does one too long for the name of a Unix socket."""
    async with EmbeddedServer(data_dir / name, settings=FAST) as dsn:
        assert await asked(dsn, "SELECT 1") == 1


async def test_a_start_given_up_half_way_starts_again(data_dir: Path) -> None:
    """A cancelled start leaves no server running and nothing that keeps the next one from starting."""
    starting = asyncio.create_task(EmbeddedServer(data_dir, settings=FAST).__aenter__())
    await asyncio.sleep(0.2)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert postmaster_pid(data_dir) is None

    async with EmbeddedServer(data_dir, settings=FAST) as dsn:
        assert await asked(dsn, "SELECT 1") == 1


async def test_data_of_another_release_is_refused(data_dir: Path) -> None:
    """A directory that another major version made is left alone, and the error says which one."""
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / "PG_VERSION").write_text("16\n")

    with pytest.raises(EmbeddedServerError, match="created by PostgreSQL 16"):
        await EmbeddedServer(data_dir).__aenter__()


async def test_a_directory_that_cannot_be_made_is_an_error(data_dir: Path) -> None:
    """A file where the directory should be gives an error that names the place."""
    await asyncio.to_thread(data_dir.write_text, "in the way")

    with pytest.raises(EmbeddedServerError, match=str(data_dir)):
        await EmbeddedServer(data_dir).__aenter__()


async def test_a_server_that_does_not_start_says_why(data_dir: Path) -> None:
    """The error quotes the end of the server's log."""
    with pytest.raises(EmbeddedServerError, match="no_such_setting"):
        await EmbeddedServer(data_dir, settings={"no_such_setting": "on"}).__aenter__()


async def test_errors_in_its_log_do_not_quote_rows(data_dir: Path) -> None:
    """The server's log does not keep what a refused row contained."""
    async with EmbeddedServer(data_dir, settings=FAST) as dsn:
        await asked(dsn, "CREATE TABLE t (a text, b text NOT NULL)")
        with pytest.raises(asyncpg.NotNullViolationError):
            await asked(dsn, "INSERT INTO t SELECT upper('secret'), NULL")

    assert "SECRET" not in (data_dir / "postgres" / "server.log").read_text()
