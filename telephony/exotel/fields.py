"""Values in Exotel's requests and answers, which may be text, numbers, or JSON written as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def field_text(fields: Mapping[str, Any], name: str) -> str:
    """A field as text; it may be a number. NUL cannot be stored."""
    value = fields.get(name)
    return "" if value is None or isinstance(value, dict | list) else str(value).replace("\0", "").strip()


def json_object(value: object) -> dict[str, Any]:
    """An object, or the JSON text of one; an empty one if it is neither."""
    value = _parsed(value)
    return value if isinstance(value, dict) else {}


def json_objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list, or of the JSON text of one; an empty list if it is neither."""
    value = _parsed(value)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _parsed(value: object) -> object:
    if not isinstance(value, str | bytes):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None
