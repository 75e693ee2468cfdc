"""Ids: UUID version 7, made by the program, so that a row's id is known before it is written."""

from __future__ import annotations

from uuid import UUID

from uuid_utils.compat import uuid7

__all__ = ["new_id"]


def new_id() -> UUID:
    """A new id; ids sort by their time of creation in ms."""
    return uuid7()
