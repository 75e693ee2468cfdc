"""Secrets for a push, from a file that is not in git; they replace ``***`` in templates."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from templates.problem import pointer
from templates.sets import name_of
from voicebot.authoring.files import BadFiles, Fault, read_file
from voicebot.vault import HIDDEN

Secrets = Mapping[str, Mapping[str, Mapping[str, str]]]
"""Template → function → header → secret."""

_SECRETS = TypeAdapter(dict[str, dict[str, dict[str, str]]])


def read_secrets(path: Path) -> Secrets:
    """The secrets in a YAML or JSON file.

    Raises:
        BadFiles: it cannot be read, or is not template → function → header → text.
    """
    text = read_file(path)
    try:
        return _SECRETS.validate_python(text.document, strict=True)
    except ValidationError as error:
        places = [pointer(*fault["loc"]) for fault in error.errors()]
        message = "A mapping of template, function and header to a text is expected."
        raise BadFiles(
            [Fault(path=path, line=text.line(each), pointer=each, message=message) for each in places]
        ) from None


def with_secrets(documents: Sequence[Any], secrets: Secrets) -> list[Any]:
    """Copies of the documents, with secrets in place of ``***``."""
    return [_filled(each, found) if (found := secrets.get(name_of(each))) else each for each in documents]


def unused(documents: Sequence[Any], secrets: Secrets) -> list[str]:
    """Secrets for which no document has ``***``, such as misspelt ones."""
    wanted = {
        (name_of(document), name, header)
        for document in documents
        for name, headers in _hidden(document)
        for header in headers
        if headers[header] == HIDDEN
    }
    given = [
        (template, function, header)
        for template, functions in secrets.items()
        for function, headers in functions.items()
        for header in headers
    ]
    return [" / ".join(each) for each in given if each not in wanted]


def _filled(document: Any, secrets: Mapping[str, Mapping[str, str]]) -> Any:
    filled = copy.deepcopy(document)
    for name, headers in _hidden(filled):
        given = secrets.get(name, {})
        headers.update({each: given[each] for each in headers if each in given and headers[each] == HIDDEN})
    return filled


def _hidden(document: Any) -> list[tuple[str, dict[str, str]]]:
    """The secret headers of a document with ``***``, by function; the mappings are those of the document."""
    functions = document.get("functions") if isinstance(document, dict) else None
    found = []
    for function in functions if isinstance(functions, list) else ():
        headers = function.get("secret_headers") if isinstance(function, dict) else None
        if isinstance(headers, dict) and HIDDEN in headers.values():
            found.append((str(function.get("name")), headers))
    return found
