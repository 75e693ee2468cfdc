"""Reading a response: as a JSON value, as values of variables, and as a result of limited size."""

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
from handlers.http.request import HttpResponse
from templates.model import Variable
from templates.values import coerce, require_short, shortened

RESULT_BYTES = (256, 65_536)
NOTE = "The answer was too long; parts of it are left out."
"""Text for the model when a result was shortened."""

_TRUNCATION_STEPS = ((2000, 50), (500, 20), (200, 10), (80, 5), (40, 3))
"""(Characters of a string, entries of a list or object): limits that are tried in order until it fits."""

_MAX_DEPTH = 64
_CHARSET = re.compile(r"(utf|iso-?8859|windows|cp\d|us-ascii|ascii|latin|koi8|gb|big5|shift_jis|euc)")


def read(reply: HttpResponse) -> Any:
    """The body as a JSON value: parsed if it is JSON, a string if it is text, None if it is empty.

    All strings can be encoded in UTF-8 and stored by PostgreSQL (no lone surrogates, no NUL).

    Raises:
        StatusRefused: the status is not 2xx.
        UnreadableAnswer: the body is declared as JSON but is not valid, or it is compressed.
    """
    if not 200 <= reply.status < 300:
        raise StatusRefused(reply.status)
    if not reply.body:
        return None
    if reply.content_encoding.strip().lower() not in ("", "identity"):
        raise UnreadableAnswer("is compressed, although no compression was requested")
    kind, charset = _content(reply.content_type)
    if kind == "application/json" or kind.endswith("+json"):
        return _json(reply)
    text = _text(reply.body, charset)
    if kind.startswith("text/") or kind in ("", "application/xml") or kind.endswith("+xml"):
        return _json_or_text(text) if reply.complete else _storable(text + "…")
    return f"({kind}, not shown)"


def result_for_model(answer: Any, limit: int) -> dict[str, Any]:
    """The result for the model: a JSON object as it is, any other value as ``{"answer": value}``.

    Args:
        answer: the value that ``read`` returned.
        limit: maximum size in bytes of JSON in UTF-8. In a larger result, long strings and later entries are
            cut off, and ``truncated`` is added.
    """
    limit = max(RESULT_BYTES[0], min(limit, RESULT_BYTES[1]))
    if answer is None or answer == {}:
        return {"status": "done"}
    whole = answer if isinstance(answer, dict) else {"answer": answer}
    if _size(whole) <= limit:
        return whole
    for longest, most in _TRUNCATION_STEPS:
        cut: dict[str, Any] = {"truncated": NOTE, **_truncated(whole, longest, most)}
        if _size(cut) <= limit:
            return cut
    text = json.dumps(whole, ensure_ascii=False)[:limit]
    while _size(cut := {"truncated": NOTE, "answer": text}) > limit:
        text = text[: len(text) * 4 // 5]
    return cut


def values_to_keep(answer: Any, keep: Mapping[str, str], variables: Iterable[Variable]) -> dict[str, Any]:
    """The values of the answer for variables, each converted to the variable's type.

    A variable is left out if the answer has no value at its pointer or a value of another type. The value
    None (null in the answer) empties the variable. A long text is cut off, because prompts contain it.

    Args:
        answer: the value that ``read`` returned.
        keep: variable name → JSON pointer into the answer.
        variables: the template's variables.
    """
    kinds = {variable.name: variable.type for variable in variables}
    values: dict[str, Any] = {}
    for name, place in keep.items():
        if name not in kinds:
            continue
        try:
            value = JsonPointer(place).resolve(answer)
            values[name] = None if value is None else _short(coerce(kinds[name], value))
        except JsonPointerException:
            logger.info("variable '{}' is not set: the answer has no value at its pointer", name)
        except ValueError as error:
            logger.warning("variable '{}' is not set: the value in the answer must be {}", name, error)
    return values


def _short(value: Any) -> Any:
    value = shortened(value) if isinstance(value, str) else value
    require_short(value)
    return value


def _json(reply: HttpResponse) -> Any:
    if not reply.complete:
        raise UnreadableAnswer("is too long to be read")
    try:
        return _storable(json.loads(reply.body.decode("utf-8-sig"), parse_constant=_refuse_constant))
    except (ValueError, RecursionError):
        raise UnreadableAnswer("is not valid JSON") from None


def _json_or_text(text: str) -> Any:
    """Parse a text as JSON if it looks like an object or a list; servers often send JSON as text."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            return _storable(json.loads(text, parse_constant=_refuse_constant))
        except (ValueError, RecursionError):
            pass
    return _storable(text)


def _content(content_type: str) -> tuple[str, str]:
    """Media type in lower case, and charset."""
    message = Message()
    message["Content-Type"] = content_type
    charset = message.get_content_charset("utf-8")
    return (message.get_content_type() if content_type.strip() else ""), charset


def _text(body: bytes, charset: str) -> str:
    """Decode the body. Python codecs that are not charsets (punycode, zlib, …) are not used."""
    if _CHARSET.match(charset):
        with suppress(LookupError, ValueError):
            return body.decode(charset, "replace")
    return body.decode("utf-8", "replace")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _storable(value: Any, depth: int = 0) -> Any:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_storable(key): _storable(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_storable(inner, depth + 1) for inner in value]
    return value


def _truncated(value: Any, longest: int, most: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= longest else value[:longest] + "…"
    if isinstance(value, dict):
        entries = list(value.items())[:most]
        return {key[:longest]: _truncated(inner, longest, most) for key, inner in entries}
    if isinstance(value, list):
        left_out = len(value) - most
        return [_truncated(inner, longest, most) for inner in value[:most]] + (
            [f"… {left_out} more"] if left_out > 0 else []
        )
    return value


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())
