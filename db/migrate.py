"""The schema, brought up to date: numbered files of SQL, applied once each, in order, never backwards.

A file that has been applied is history: it is never edited, its checksum is kept and compared. What a release
adds, the release before it must be able to live with, since replicas are replaced one after another: so a
schema newer than this program is left alone.
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

# Any constant will do, as long as no other program takes this advisory lock in the same database.
_LOCK = 0x766F6963
_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_CONNECT_SECONDS = 10.0

_BOOKS = """
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
        """SHA-256 of the file's text, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations(folder: Traversable | None = None) -> list[Migration]:
    """The migrations of this program in their order.

    Raises:
        MigrationError: two files have one number, or a file has no number.
    """
    folder = folder or resources.files("db") / "migrations"
    found: dict[int, Migration] = {}
    for file in folder.iterdir():
        if not file.name.endswith(".sql"):
            continue
        named = _FILE_NAME.fullmatch(file.name)
        if named is None:
            raise MigrationError(f"{file.name} is not named NNNN_name.sql.")
        version = int(named[1])
        if version in found:
            raise MigrationError(f"{file.name} has the number of {found[version].name}.")
        found[version] = Migration(version=version, name=named[2], sql=file.read_text(encoding="utf-8"))
    return [found[version] for version in sorted(found)]


async def migrate(dsn: str, known: Sequence[Migration] | None = None) -> list[Migration]:
    """Apply what is missing, each file in a transaction of its own; several processes may do so at once.

    Args:
        dsn: as for ``Database.connect``; its user owns the schema.
        known: the migrations to apply, this program's own by default.

    Returns:
        The migrations applied now, none when the schema is up to date.

    Raises:
        MigrationError: an applied file was edited, a file is older than one applied already, or a file fails.
        DatabaseUnavailable: no server answers; try again.
    """
    known = migrations() if known is None else known
    try:
        connection = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS)
    except (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError) as error:
        raise DatabaseUnavailable(f"The database cannot be reached ({error}); try again.") from error
    except asyncpg.PostgresError as error:
        raise DatabaseError(f"The database refuses us: {error.args[0]}") from error
    try:
        # Of the session, not of a transaction: it spans several. It ends with the connection at the latest.
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(_BOOKS)
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
                f"Migration {migration.version:04} ({migration.name}) was skipped, {newest:04} was applied: "
                "give it a new number."
            )
        if checksum is None:
            missing.append(migration)
        elif checksum != migration.checksum:
            raise MigrationError(
                f"Migration {migration.version:04} ({migration.name}) was edited after it had been applied: "
                "restore the file and write a new migration."
            )
    if newest > max((migration.version for migration in known), default=0):
        logger.warning("The schema ({:04}) is newer than this program; left as it is.", newest)
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
            f"Migration {migration.version:04} ({migration.name}) failed and was undone: {error}"
        ) from error
