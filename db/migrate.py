"""Migrations of the schema: numbered SQL files that are applied once, in order.

An applied file must not be edited; its checksum is stored and compared. During an update, replicas of two
releases run at the same time: each migration must be compatible with the previous release, and a schema that
is newer than this program is not changed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

import asyncpg
from loguru import logger

from db.errors import DatabaseError, DatabaseUnavailable, MigrationError

__all__ = ["Migration", "migrate", "migrations"]

# An arbitrary key; no other program may use this advisory lock in the same database.
_LOCK = 0x766F6963
_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_CONNECT_SECONDS = 10.0

_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file of ``db/migrations``, ``NNNN_name.sql``."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file's text in hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations(folder: Traversable | None = None) -> list[Migration]:
    """The migrations in a folder, by default of this program, ordered by version.

    Raises:
        MigrationError: two files have the same number, or a file has no number.
    """
    folder = folder or resources.files("db") / "migrations"
    found: dict[int, Migration] = {}
    for file in folder.iterdir():
        if not file.name.endswith(".sql"):
            continue
        named = _FILE_NAME.fullmatch(file.name)
        if named is None:
            raise MigrationError(f"The file name {file.name} does not have the form NNNN_name.sql.")
        version = int(named[1])
        if version in found:
            raise MigrationError(f"{file.name} has the same number as {found[version].name}.")
        found[version] = Migration(version=version, name=named[2], sql=file.read_text(encoding="utf-8"))
    return [found[version] for version in sorted(found)]


async def migrate(dsn: str, known: Sequence[Migration] | None = None) -> list[Migration]:
    """Apply the missing migrations, each in its own transaction. Several processes may call this at once.

    Args:
        dsn: see ``Database.connect``; its user must own the schema.
        known: the migrations to apply; None: those of this program.

    Returns:
        The migrations that were applied; an empty list if the schema is up to date.

    Raises:
        MigrationError: an applied file was edited, a missing file is older than an applied one, or a file
            fails.
        DatabaseUnavailable: the server cannot be reached; retry later.
        DatabaseError: the server refused the connection.
    """
    known = migrations() if known is None else known
    try:
        connection = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS)
    except (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError) as error:
        raise DatabaseUnavailable(f"The database cannot be reached ({error}); retry later.") from error
    except asyncpg.PostgresError as error:
        raise DatabaseError(f"The database refused the connection: {error.args[0]}") from error
    try:
        # A lock of the session, because it spans several transactions; it ends with the connection.
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(_CREATE_TABLE)
        rows = await connection.fetch("SELECT version, name, checksum FROM schema_migrations")
        missing = _missing(known, {row["version"]: row["checksum"] for row in rows})
        for migration in missing:
            await _apply(connection, migration)
        return missing
    finally:
        await connection.close()


def _missing(known: Sequence[Migration], applied: Mapping[int, str]) -> list[Migration]:
    newest = max(applied, default=0)
    missing = []
    for migration in known:
        checksum = applied.get(migration.version)
        if checksum is None and migration.version < newest:
            raise MigrationError(
                f"Migration {migration.version:04} ({migration.name}) is missing, but {newest:04} was "
                "applied: give it a new number."
            )
        if checksum is None:
            missing.append(migration)
        elif checksum != migration.checksum:
            raise MigrationError(
                f"Migration {migration.version:04} ({migration.name}) was edited after it was applied: "
                "restore the file and write a new migration."
            )
    if newest > max((migration.version for migration in known), default=0):
        logger.warning("The schema ({:04}) is newer than this program; it is not changed.", newest)
    return missing


async def _apply(connection: asyncpg.Connection[asyncpg.Record], migration: Migration) -> None:
    logger.info("Applying migration {:04} {}", migration.version, migration.name)
    try:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
                migration.version,
                migration.name,
                migration.checksum,
            )
    except asyncpg.PostgresError as error:
        raise MigrationError(
            f"Migration {migration.version:04} ({migration.name}) failed and was rolled back: {error}"
        ) from error
