"""Conversion of rows to records, and pages of lists; used by the modules of the resources."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from typing import Any, Generic, TypeVar
from uuid import UUID

from db.errors import BadCursor
from db.pool import Row

__all__ = [
    "MAX_LIMIT",
    "Page",
    "after_id",
    "after_number",
    "after_seq",
    "columns",
    "narrow",
    "page",
    "read",
    "split_cursor",
    "whole_cursor",
]

RecordT = TypeVar("RecordT")

_HIGHEST_ID = UUID(int=2**128 - 1)
_HIGHEST_NUMBER = 2**31 - 1
_EARLIEST = datetime(1, 1, 2, tzinfo=UTC)

MAX_LIMIT = 200
"""Maximum number of items of a page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[RecordT]):
    """One page of a list, newest first."""

    items: Sequence[RecordT]
    next_cursor: str | None
    """Opaque cursor of the next page; None on the last page."""


@cache
def columns(record: type[Any], table: str = "") -> str:
    """The columns of a record's fields for SELECT or RETURNING, qualified by ``table`` if given."""
    prefix = f"{table}." if table else ""
    return ", ".join(prefix + field.name for field in fields(record))


def read(record: type[RecordT], row: Row) -> RecordT:
    """Make a record from a row with the columns ``columns(record)``."""
    return record(**dict(row))


def after_id(cursor: str | None) -> UUID:
    """The id before which a page begins; the highest possible id for the first page.

    Raises:
        BadCursor: the text is not a cursor of such a list.
    """
    try:
        return _HIGHEST_ID if cursor is None else UUID(_decode(cursor))
    except ValueError:
        raise BadCursor from None


def after_number(cursor: str | None) -> int:
    """The number before which a page begins; the highest possible number for the first page.

    Raises:
        BadCursor: the text is not a cursor of such a list.
    """
    try:
        return _HIGHEST_NUMBER if cursor is None else int(_decode(cursor))
    except ValueError:
        raise BadCursor from None


def after_seq(cursor: str | None) -> int:
    """The number after which a page begins, in a list that begins with the lowest; 0 for the first page.

    Raises:
        BadCursor: the text is not a cursor of such a list.
    """
    return 0 if cursor is None else min(max(after_number(cursor), 0), _HIGHEST_NUMBER - MAX_LIMIT - 1)


def split_cursor(cursor: str | None) -> tuple[datetime, UUID]:
    """The time and id after which a page begins, in a list sorted by both; the lowest for the first page.

    Raises:
        BadCursor: the text is not a cursor of such a list.
    """
    if cursor is None:
        return _EARLIEST, UUID(int=0)
    try:
        at, _, id = _decode(cursor).partition("/")
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is None:
            raise BadCursor
        return moment, UUID(id)
    except ValueError:
        raise BadCursor from None


def whole_cursor(at: datetime, id: UUID) -> str:
    """The cursor for the page after an item with this time and id."""
    return _encode(f"{at.isoformat()}/{id}")


def narrow(filters: Mapping[str, object], first: int) -> tuple[str, list[object]]:
    """Conditions for the filters that are set, and their arguments.

    Only these conditions are in the query, because PostgreSQL cannot use an index for ``$n IS NULL OR …``.

    Args:
        filters: column → value; None: no condition. Columns must not come from a client.
        first: number of the first placeholder.

    Returns:
        `` AND kind = $4 AND …`` or "", and the values in that order.
    """
    given = [(column, value) for column, value in filters.items() if value is not None]
    conditions = "".join(f" AND {column} = ${first + place}" for place, (column, _) in enumerate(given))
    return conditions, [value for _, value in given]


def page(items: Sequence[RecordT], limit: int, key: Callable[[RecordT], UUID | int]) -> Page[RecordT]:
    """Make a page of the first ``limit`` items.

    Args:
        items: up to ``limit + 1`` items; the additional one shows that there is a next page.
        limit: maximum number of items of the page, at least 1.
        key: the value by which the list is sorted.
    """
    cursor = _encode(str(key(items[limit - 1]))) if len(items) > limit else None
    return Page(items=items[:limit], next_cursor=cursor)


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _decode(cursor: str) -> str:
    return base64.b64decode(cursor.encode() + b"==", altchars=b"-_", validate=False).decode()
