import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from db import events
from db.errors import DatabaseUnavailable, MigrationError
from db.migrate import Migration, migrate, migrations
from db.pool import Database
from tests.db.seed import make_event, seed_account
from tests.empty_databases import NewDatabase

FIRST = Migration(version=1, name="first", sql="CREATE TABLE first (id int)")
SECOND = Migration(
    version=2, name="second", sql="CREATE TABLE second (id int); INSERT INTO second VALUES (1)"
)
BROKEN = Migration(version=2, name="broken", sql="CREATE TABLE half (id int); SELECT * FROM nowhere")


@pytest.fixture
async def empty(new_database: NewDatabase) -> AsyncIterator[str]:
    """The DSN of a database without a schema."""
    async with new_database() as dsn:
        connection = await asyncpg.connect(dsn)
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await connection.close()
        yield dsn


async def tables(dsn: str) -> set[str]:
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    await connection.close()
    return {row["tablename"] for row in rows}


async def test_each_migration_is_applied_once(empty: str) -> None:
    """A second run applies only what is new, in order."""
    assert await migrate(empty, [FIRST]) == [FIRST]
    assert await migrate(empty, [FIRST, SECOND]) == [SECOND]
    assert await migrate(empty, [FIRST, SECOND]) == []
    assert await tables(empty) == {"schema_migrations", "first", "second"}


async def test_an_edited_migration_is_an_error(empty: str) -> None:
    """What was applied may not change afterwards, and nothing else is applied then."""
    await migrate(empty, [FIRST])
    edited = Migration(version=1, name="first", sql=FIRST.sql + " ")

    with pytest.raises(MigrationError, match=r"0001.*edited"):
        await migrate(empty, [edited, SECOND])
    assert "second" not in await tables(empty)


async def test_a_migration_below_an_applied_one_is_an_error(empty: str) -> None:
    """A number that comes too late is refused rather than applied out of order."""
    await migrate(empty, [SECOND])

    with pytest.raises(MigrationError, match="0001"):
        await migrate(empty, [FIRST, SECOND])


async def test_a_migration_that_fails_leaves_nothing(empty: str) -> None:
    """A failed file is undone as a whole, the ones before it stay."""
    with pytest.raises(MigrationError, match="0002"):
        await migrate(empty, [FIRST, BROKEN])

    assert await tables(empty) == {"schema_migrations", "first"}


async def test_a_newer_schema_is_left_alone(empty: str) -> None:
    """An older replica that starts beside a newer one changes nothing and does not fail."""
    await migrate(empty, [FIRST, SECOND])

    assert await migrate(empty, [FIRST]) == []


async def test_processes_that_migrate_at_once_apply_each_file_once(empty: str) -> None:
    """Of six processes on an empty database, exactly one applies the schema and none fails."""
    program = (
        "import asyncio, sys; from db.migrate import migrate; print(len(asyncio.run(migrate(sys.argv[1]))))"
    )
    racers = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program,
            empty,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(6)
    ]
    said = [await racer.communicate() for racer in racers]

    assert [racer.returncode for racer in racers] == [0] * 6, said
    assert sorted(int(out) for out, _ in said) == [0] * 5 + [len(migrations())]


async def test_no_server_is_unavailable(tmp_path: object) -> None:
    """Migrating where no server listens can be tried again."""
    with pytest.raises(DatabaseUnavailable):
        await migrate(f"postgresql://postgres@/postgres?host={tmp_path}")


def test_the_migrations_are_numbered_without_gaps() -> None:
    """The files of this release count from 0001."""
    assert [migration.version for migration in migrations()] == list(range(1, len(migrations()) + 1))


async def test_the_tests_run_on_the_migrated_schema(database: Database, dsn: str) -> None:
    """The database that tests are given has every migration of this release."""
    assert await migrate(dsn) == []
    row = await database.fetchrow("SELECT max(version) AS version FROM schema_migrations")
    assert row is not None
    assert row["version"] == migrations()[-1].version


async def test_stored_names_of_parts_are_migrated(empty: str) -> None:
    """Migration 0005 rewrites the former part names and end reasons of calls and events."""
    await migrate(empty, [migration for migration in migrations() if migration.version < 5])
    database = await Database.connect(empty)
    # The rows are made by the present release, which uses this table and these columns of later migrations.
    await database.execute("CREATE TABLE number_assignments (e164 text, account_id uuid)")
    columns = ("patience_ms", "channels", "reserved_inbound", "inbound")
    for column in columns:
        type_ = "jsonb DEFAULT '{}'" if column == "inbound" else "integer"
        await database.execute(f"ALTER TABLE numbers ADD COLUMN {column} {type_}")
    await database.execute(
        "ALTER TABLE calls ADD COLUMN handovers integer, ADD COLUMN cost jsonb, ADD COLUMN output jsonb, "
        "ADD COLUMN answered_by text, ADD COLUMN machine_action_at timestamptz"
    )
    await database.execute(
        "ALTER TABLE calls ADD COLUMN connect_to text, ADD COLUMN reconnecting boolean, "
        "ADD COLUMN offered_template_ids uuid[]"
    )
    seeded = await seed_account(database)
    await database.execute("DROP TABLE number_assignments")
    for column in columns:
        await database.execute(f"ALTER TABLE numbers DROP COLUMN {column}")
    await database.execute(
        "ALTER TABLE calls DROP COLUMN handovers, DROP COLUMN cost, DROP COLUMN output, "
        "DROP COLUMN answered_by, DROP COLUMN machine_action_at"
    )
    await database.execute(
        "ALTER TABLE calls DROP COLUMN connect_to, DROP COLUMN reconnecting, DROP COLUMN offered_template_ids"
    )
    await database.execute(
        """
        UPDATE calls SET status = 'ended', ended_by = 'system', ended_at = now(),
            end_reason = 'mind_unavailable' WHERE id = $1
        """,
        seeded.call.id,
    )
    for seq, data in enumerate(({"part": "ear"}, {"part": "voice"}, {"reason": "mind_unavailable"}), 1):
        await events.record(database, replace(make_event(seeded, seq=seq), data=data))

    await migrate(empty)

    [call] = await database.fetch("SELECT end_reason FROM calls WHERE id = $1", seeded.call.id)
    recorded = await events.of_call(database, seeded.id, seeded.call.id)
    await database.close()
    assert call["end_reason"] == "llm_unavailable"
    assert [event.data for event in recorded] == [
        {"part": "stt"},
        {"part": "tts"},
        {"reason": "llm_unavailable"},
    ]


async def test_of_several_rows_of_a_number_one_is_kept(empty: str) -> None:
    """0007: the active row keeps the number, or else the oldest; the others are deleted."""
    known = [migration for migration in migrations() if migration.version <= 7]
    await migrate(empty, known[:6])
    connection = await asyncpg.connect(empty)
    await connection.execute(
        """
        INSERT INTO accounts (id, name) SELECT md5(n::text)::uuid, 'Acme' FROM generate_series(1, 3) n;
        INSERT INTO numbers (id, account_id, e164, carrier, label, time_zone, active) VALUES
            (md5('a')::uuid, md5('1')::uuid, '+14155550001', 'twilio', 'paused', 'UTC', false),
            (md5('b')::uuid, md5('2')::uuid, '+14155550001', 'twilio', 'active', 'UTC', true),
            (repeat('1', 32)::uuid, md5('1')::uuid, '+14155550002', 'twilio', 'first', 'UTC', false),
            (repeat('2', 32)::uuid, md5('3')::uuid, '+14155550002', 'twilio', 'later', 'UTC', false),
            (md5('c')::uuid, md5('3')::uuid, '+14155550002', 'exotel', 'other carrier', 'UTC', false);
        """
    )
    assert [migration.version for migration in await migrate(empty, known)] == [7]
    kept = await connection.fetch("SELECT label FROM numbers WHERE deleted_at IS NULL")
    await connection.close()

    assert {row["label"] for row in kept} == {"active", "first", "other carrier"}
