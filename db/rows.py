"""From rows to records and pages: shared by the files of each resource."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Generic, TypeVar
from uuid import UUID

from db.errors import BadCursor
from db.pool import Row

__all__ = ["MAX_LIMIT", "Page", "after_id", "after_number", "columns", "page", "read"]

RecordT = TypeVar("RecordT")

MAX_LIMIT = 200
"""The most items a page may hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[RecordT]):
    """One page of a list, newest first."""

    items: Sequence[RecordT]
    next_cursor: str | None
    """Where the next page begins, opaque; None on the last page."""


@cache
def columns(record: type[Any], table: str = "") -> str:
    """The columns of a record's fields for a SELECT or RETURNING, qualified by ``table`` if given."""
    prefix = f"{table}." if table else ""
    return ", ".join(prefix + field.name for field in fields(record))


def read(record: type[RecordT], row: Row) -> RecordT:
    """Make a record from the columns that ``columns(record)`` asked for."""
    return record(**dict(row))


def after_id(cursor: str | None) -> UUID | None:
    """The id a page begins after, None for the first page.

    Raises:
        BadCursor: the text is not a cursor of such a list.
    """
    try:
        return None if cursor is None else UUID(_decode(cursor))
    except ValueError:
        raise BadCursor from None


def after_number(cursor: str | None) -> int | None:
    """The number a page begins after, None for the first page.

    Raises:
        BadCursor: the text is not a cursor of such a list.
    """
    try:
        return None if cursor is None else int(_decode(cursor))
    except ValueError:
        raise BadCursor from None


def page(items: Sequence[RecordT], limit: int, key: Callable[[RecordT], UUID | int]) -> Page[RecordT]:
    """A page of the first ``limit`` items, of which one more was asked for to know whether there are more.

    Args:
        items: up to ``limit + 1`` items.
        limit: how many the page may hold, at least 1.
        key: what the list is sorted by.
    """
    cursor = _encode(str(key(items[limit - 1]))) if len(items) > limit else None
    return Page(items=items[:limit], next_cursor=cursor)


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _decode(cursor: str) -> str:
    return base64.b64decode(cursor.encode() + b"==", altchars=b"-_", validate=False).decode()
