"""How values pass between Python and PostgreSQL: JSON, text, and arrays of built-in types."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from types import SimpleNamespace
from typing import Any

import asyncpg

_JSONB_VERSION = b"\x01"
"""What precedes the text of a value in PostgreSQL's binary format of jsonb."""

_UNSTORABLE = dict.fromkeys([0, *range(0xD800, 0xE000)], "\ufffd")

_FIRST_OTHER_OID = 10_000
"""Below it, an OID means the same type in every server (``FirstGenbkiObjectId`` in PostgreSQL's source)."""

_built_in_types: dict[int, asyncpg.Record] = {}
"""What servers have answered about such types, by OID."""

_NOT_ASKED = SimpleNamespace(name="not asked")
"""In place of the statement that asks: asyncpg reads from its name that it has not replaced another one."""


class Connection(asyncpg.Connection):
    """A connection that takes what an array consists of from an earlier one.

    asyncpg asks the server for the element type of each array type that a statement uses, on each connection:
    10 ms of CPU time of the server. The overridden method is private; there is no public way.
    """

    async def _introspect_types(  # what it overrides is not in asyncpg's stubs
        self,
        typeoids: Collection[int],
        timeout: float | None,  # noqa: ASYNC109
    ) -> tuple[Any, Any]:
        if all(oid in _built_in_types for oid in typeoids):
            return [_built_in_types[oid] for oid in typeoids], _NOT_ASKED
        types, statement = await super()._introspect_types(typeoids, timeout)  # type: ignore[misc]
        _built_in_types.update((row["oid"], row) for row in types if row["oid"] < _FIRST_OTHER_OID)
        return types, statement


async def set_codecs(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Have a new connection take JSON values as Python objects, and any text."""
    await connection.set_type_codec("json", schema="pg_catalog", encoder=_to_json, decoder=json.loads)
    # In the binary format, because the values of a row within a row come in it whatever the codec wants.
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_to_jsonb, decoder=_from_jsonb, format="binary"
    )
    await connection.set_type_codec("text", schema="pg_catalog", encoder=_storable, decoder=str)


def _storable(value: object) -> str:
    """Replace NUL and lone surrogates, which PostgreSQL cannot store, by U+FFFD."""
    if not isinstance(value, str):
        raise TypeError(f"expected str, not {type(value).__name__}")
    return value if value.isascii() and "\0" not in value else value.translate(_UNSTORABLE)


def _to_json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if "\\u0000" in text:
        text = json.dumps(_storable_json(value), ensure_ascii=False, allow_nan=False)
    return _storable(text)


def _to_jsonb(value: object) -> bytes:
    return _JSONB_VERSION + _to_json(value).encode()


def _from_jsonb(data: bytes) -> object:
    return json.loads(data.removeprefix(_JSONB_VERSION))


def _storable_json(value: object) -> object:
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, Mapping):
        return {_storable(str(key)): _storable_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable_json(item) for item in value]
    return value
