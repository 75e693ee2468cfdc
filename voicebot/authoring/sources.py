"""Documents that have not been read yet: they are read where templates are checked, not on the event loop."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class InvalidJson(ValueError):
    """A text is not JSON; the message says where."""


def json_fault(error: json.JSONDecodeError) -> str:
    """What is wrong with a text that is not JSON, and where, in a sentence."""
    return f"Line {error.lineno}, column {error.colno}: {error.msg}."


@dataclass(frozen=True, slots=True)
class JsonText:
    """A document as the body of a request. Depth and number of its values have been checked."""

    text: bytes

    def read(self) -> Any:
        """The document.

        Raises:
            InvalidJson: the text is not JSON.
        """
        try:
            return json.loads(self.text)
        except json.JSONDecodeError as error:
            raise InvalidJson(json_fault(error)) from None
        except (ValueError, RecursionError):
            raise InvalidJson("The text is not JSON in UTF-8.") from None


@dataclass(frozen=True, slots=True)
class MergePatch:
    """A document, and a merge patch (RFC 7396) to apply to it."""

    target: Mapping[str, Any]
    patch: JsonText

    def read(self) -> Any:
        """The changed document.

        Raises:
            InvalidJson: the patch is not JSON.
        """
        return merged(self.target, self.patch.read())


@dataclass(frozen=True, slots=True)
class PackedDocument:
    """A document that is passed on without being read on the way."""

    pickled: bytes

    @classmethod
    def of(cls, document: Any) -> PackedDocument:
        """Pack a document."""
        return cls(pickle.dumps(document, pickle.HIGHEST_PROTOCOL))

    def read(self) -> Any:
        """The document."""
        return pickle.loads(self.pickled)  # noqa: S301 - packed by ``of``


def read_source(document: Any) -> Any:
    """The document itself, which may have to be read first.

    Raises:
        InvalidJson: it is not JSON.
    """
    return document.read() if isinstance(document, JsonText | MergePatch | PackedDocument) else document


def merged(target: Any, patch: Any) -> Any:
    """``target`` with a merge patch applied: null removes a member, objects merge, other values replace."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
