"""What a server answered: read once, kept in variables, and shown to the model in the size it may have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from email.message import Message
from typing import Any

from jsonpointer import JsonPointer, JsonPointerException
from loguru import logger

from handlers.http.errors import StatusRefused, UnreadableAnswer
from handlers.http.request import Reply
from templates.model import Variable
from templates.values import coerce

RESULT_BYTES = (256, 65_536)
NOTE = "The answer was too long; parts of it are left out."

_SHORTER = ((2000, 50), (500, 20), (200, 10), (80, 5), (40, 3))
"""Longest text and most entries, tried one after the other until the answer fits."""

_MAX_DEPTH = 64
_CHARSET = re.compile(r"(utf|iso-?8859|windows|cp\d|us-ascii|ascii|latin|koi8|gb|big5|shift_jis|euc)")


def read(reply: Reply) -> Any:
    """The answer as JSON: parsed if it is JSON, a text if it is one, None if there is none.

    Every text in it can be written as UTF-8 and stored by PostgreSQL (no lone surrogates, no NUL).

    Raises:
        StatusRefused: the status is not one of success.
        UnreadableAnswer: it claims to be JSON and is not, or it is compressed though nobody asked for that.
    """
    if not 200 <= reply.status < 300:
        raise StatusRefused(reply.status)
    if not reply.body:
        return None
    if reply.content_encoding.strip().lower() not in ("", "identity"):
        raise UnreadableAnswer("is compressed, which was not asked for")
    kind, charset = _content(reply.content_type)
    if kind == "application/json" or kind.endswith("+json"):
        return _json(reply)
    text = _text(reply.body, charset)
    if kind.startswith("text/") or kind in ("", "application/xml") or kind.endswith("+xml"):
        return _guessed(text) if reply.complete else _clean(text + "…")
    return f"({kind}, not shown)"


def shown(answer: Any, limit: int) -> dict[str, Any]:
    """What the model is given: a JSON object stays as it is, anything else is its ``answer``.

    Args:
        limit: bytes of JSON in UTF-8. What is longer loses long texts and later entries first, and says so.
    """
    limit = max(RESULT_BYTES[0], min(limit, RESULT_BYTES[1]))
    if answer is None or answer == {}:
        return {"status": "done"}
    whole = answer if isinstance(answer, dict) else {"answer": answer}
    if _size(whole) <= limit:
        return whole
    for longest, most in _SHORTER:
        cut: dict[str, Any] = {"truncated": NOTE, **_shortened(whole, longest, most)}
        if _size(cut) <= limit:
            return cut
    text = json.dumps(whole, ensure_ascii=False)[:limit]
    while _size(cut := {"truncated": NOTE, "answer": text}) > limit:
        text = text[: len(text) * 4 // 5]
    return cut


def kept(answer: Any, keep: Mapping[str, str], variables: Iterable[Variable]) -> dict[str, Any]:
    """The variables that the answer fills, each in its declared type.

    What the answer does not hold, or holds in another type, leaves its variable as it was; JSON's null
    empties it.
    """
    kinds = {variable.name: variable.type for variable in variables}
    values: dict[str, Any] = {}
    for name, place in keep.items():
        if name not in kinds:
            continue
        try:
            value = JsonPointer(place).resolve(answer)
            values[name] = None if value is None else coerce(kinds[name], value)
        except JsonPointerException:
            logger.info("nothing to keep as '{}': the answer has nothing at its pointer", name)
        except ValueError as error:
            logger.warning("nothing to keep as '{}': the answer should hold {}", name, error)
    return values


def _json(reply: Reply) -> Any:
    if not reply.complete:
        raise UnreadableAnswer("is too long to be read")
    try:
        return _clean(json.loads(reply.body.decode("utf-8-sig"), parse_constant=_no_number))
    except (ValueError, RecursionError):
        raise UnreadableAnswer("is not valid JSON") from None


def _guessed(text: str) -> Any:
    """JSON that was sent as plain text is JSON all the same."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            return _clean(json.loads(text, parse_constant=_no_number))
        except (ValueError, RecursionError):
            pass
    return _clean(text)


def _content(content_type: str) -> tuple[str, str]:
    """Media type in lower case, and charset."""
    message = Message()
    message["Content-Type"] = content_type
    charset = message.get_content_charset("utf-8")
    return (message.get_content_type() if content_type.strip() else ""), charset


def _text(body: bytes, charset: str) -> str:
    """The body as text; Python's codecs that are no charsets (punycode, zlib, …) are not run on it."""
    if _CHARSET.match(charset):
        with suppress(LookupError, ValueError):
            return body.decode(charset, "replace")
    return body.decode("utf-8", "replace")


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _clean(value: Any, depth: int = 0) -> Any:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_clean(key): _clean(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner, depth + 1) for inner in value]
    return value


def _shortened(value: Any, longest: int, most: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= longest else value[:longest] + "…"
    if isinstance(value, dict):
        entries = list(value.items())[:most]
        return {key[:longest]: _shortened(inner, longest, most) for key, inner in entries}
    if isinstance(value, list):
        left_out = len(value) - most
        return [_shortened(inner, longest, most) for inner in value[:most]] + (
            [f"… {left_out} more"] if left_out > 0 else []
        )
    return value


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())
