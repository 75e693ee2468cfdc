"""Secrets at rest: the headers of HTTP functions, encrypted when a template is stored, answered as ``***``.

A sealed value is ``sealed:`` and a Fernet token (AES-128-CBC with HMAC-SHA256). Whoever makes a request on a
call opens it; nothing else does.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet, InvalidToken

from templates.problem import Problem, pointer

HIDDEN = "***"
"""What a reader sees of a secret, and what a writer sends to keep it."""

_SEALED = "sealed:"


class SecretUnreadable(Exception):
    """A stored secret was sealed with another key; enter it again, or bring the old key back."""


class Vault:
    """Seals and opens short texts with one key."""

    def __init__(self, key: bytes) -> None:
        """Use ``key``: urlsafe base64 of 32 bytes (``Settings.fernet_key``)."""
        self._fernet = Fernet(key)

    def seal(self, secret: str) -> str:
        """The secret as it may be stored."""
        return _SEALED + self._fernet.encrypt(secret.encode()).decode()

    def open(self, sealed: str) -> str:
        """The secret again.

        Raises:
            SecretUnreadable: the text was not sealed with this key.
        """
        try:
            return self._fernet.decrypt(sealed.removeprefix(_SEALED).encode()).decode()
        except InvalidToken:
            raise SecretUnreadable("A secret was sealed with another key.") from None

    def is_sealed(self, secret: str, sealed: str) -> bool:
        """Whether it is this secret that was sealed."""
        try:
            return self.open(sealed) == secret
        except SecretUnreadable:
            return False


def masked(content: Mapping[str, Any]) -> dict[str, Any]:
    """A template's document without its secrets; the given one is not changed."""
    shown = dict(content)
    if any(headers for _, headers in _secrets(content)):
        shown["functions"] = copy.deepcopy(list(content["functions"]))
        for _, headers in _secrets(shown):
            headers.update(dict.fromkeys(headers, HIDDEN))
    return shown


def sealed(
    content: Mapping[str, Any], vault: Vault, stored: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], list[Problem]]:
    """A template's document as it may be stored, and the secrets that were left ``***`` with nothing to keep.

    A secret is kept for a function of the same name (or place) that calls the same host: whoever may not read
    a secret must not have it sent elsewhere either. One that is as it was stays sealed as it was, so that a
    document that says nothing new is stored as nothing new.

    Args:
        content: the whole document, secrets in plain text or ``***``.
        vault: seals what is new.
        stored: the document that it replaces, secrets sealed.
    """
    safe = dict(content)
    safe["functions"] = copy.deepcopy(list(content.get("functions", ())))
    problems: list[Problem] = []
    for index, headers in _secrets(safe):
        kept = _kept(safe["functions"][index], index, stored or {})
        for name, value in headers.items():
            if name in kept and (value == HIDDEN or vault.is_sealed(value, kept[name])):
                headers[name] = kept[name]
            elif value != HIDDEN:
                headers[name] = vault.seal(value)
            else:
                problems.append(_nothing_to_keep(index, name))
    return safe, problems


def _secrets(content: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, str]]]:
    for index, function in enumerate(content.get("functions", ())):
        headers = function.get("secret_headers")
        if headers:
            yield index, headers


def _kept(function: Mapping[str, Any], index: int, stored: Mapping[str, Any]) -> Mapping[str, str]:
    before = [other for other in stored.get("functions", ()) if other.get("type") == "http"]
    same_name = [other for other in before if other.get("name") == function.get("name")]
    same_place = [other for other in stored.get("functions", ())[index : index + 1] if other in before]
    for other in (*same_name, *same_place):
        if _origin(other) == _origin(function):
            secrets: Mapping[str, str] = other.get("secret_headers", {})
            return secrets
    return {}


def _origin(function: Mapping[str, Any]) -> tuple[str, str]:
    parts = urlsplit(function.get("url", ""))
    return parts.scheme.lower(), parts.netloc.lower()


def _nothing_to_keep(index: int, name: str) -> Problem:
    return Problem(
        pointer=pointer("functions", index, "secret_headers", name),
        code="secret_missing",
        message=f"'{HIDDEN}' keeps a stored secret; none is stored for '{name}' of this function and host.",
        remedy="Write the secret itself. It is needed again when a function's host changes.",
    )
