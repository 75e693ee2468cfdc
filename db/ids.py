"""Ids: UUID version 7, made by the program, so that a row's id is known before it is written."""

from __future__ import annotations

import hashlib
from uuid import UUID

from uuid_utils.compat import uuid7

__all__ = ["id_of", "new_id"]

_TIME_BITS = 48
_VERSION = 7 << 76
_VARIANT = 2 << 62
_RANDOM_BITS = (0xFFF << 64) | ((1 << 62) - 1)


def new_id() -> UUID:
    """A new id; ids sort by their time of creation in ms."""
    return uuid7()


def id_of(owner: UUID, *names: str) -> UUID:
    """An id that is derived from ``owner`` and names: the same arguments give the same id.

    It has the layout of version 7 and the time of ``owner``, which must be of version 7 too. A row with such
    an id can be written twice without becoming two rows.
    """
    digest = hashlib.sha256("\0".join((str(owner), *names)).encode()).digest()
    random = int.from_bytes(digest[:16], "big") & _RANDOM_BITS
    time = owner.int >> (128 - _TIME_BITS) << (128 - _TIME_BITS)
    return UUID(int=time | _VERSION | _VARIANT | random)
