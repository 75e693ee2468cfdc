"""Encryption of secrets at rest: the secret headers of HTTP functions. The API answers them as ``***``.

A sealed value is ``sealed:`` and a Fernet token (AES-128-CBC with HMAC-SHA256). Only requests of functions
decrypt it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from templates.problem import Problem, pointer

HIDDEN = "***"
"""Stands for a secret in answers; a client sends it to keep the stored secret."""

_SEALED = "sealed:"


class SecretUnreadable(Exception):
    """A stored secret was encrypted with another key; enter it again, or restore the old key."""


class Vault:
    """Encrypts short texts with the newest key, and decrypts texts of all keys."""

    def __init__(self, *keys: bytes) -> None:
        """Use ``keys``, the newest first: each is URL-safe base64 of 32 bytes (``Settings.fernet_keys``)."""
        self._newest = Fernet(keys[0])
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def seal(self, secret: str) -> str:
        """Encrypt a secret for storage."""
        return _SEALED + self._fernet.encrypt(secret.encode()).decode()

    def open(self, sealed: str) -> str:
        """Decrypt a stored secret.

        Raises:
            SecretUnreadable: it was not encrypted with one of the keys.
        """
        try:
            return self._fernet.decrypt(sealed.removeprefix(_SEALED).encode()).decode()
        except InvalidToken:
            raise SecretUnreadable("A secret was encrypted with another key.") from None

    def renewed(self, sealed: str) -> str | None:
        """The same secret encrypted with the newest key; None: it is already.

        Raises:
            SecretUnreadable: it was not encrypted with one of the keys.
        """
        try:
            self._newest.decrypt(sealed.removeprefix(_SEALED).encode())
        except InvalidToken:
            return self.seal(self.open(sealed))
        return None

    def is_sealed(self, secret: str, sealed: str) -> bool:
        """Whether ``sealed`` is the encrypted form of ``secret``."""
        try:
            return self.open(sealed) == secret
        except SecretUnreadable:
            return False


def masked(content: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a template's document with ``***`` for its secrets."""
    safe = dict(content)
    if any(headers for _, headers in _secrets(content)):
        safe["functions"] = copy.deepcopy(list(content["functions"]))
        for _, headers in _secrets(safe):
            headers.update(dict.fromkeys(headers, HIDDEN))
    return safe


def sealed(
    content: Mapping[str, Any], vault: Vault, stored: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], list[Problem]]:
    """A template's document with encrypted secrets, and a problem for each ``***`` without a stored secret.

    A stored secret is kept for a function of the same name (or position) with the same URL: an author who
    cannot read a secret must not be able to send it to another host, nor to a path whose answer repeats it.
    An unchanged secret keeps its encrypted form, so that an unchanged document is stored unchanged.

    Args:
        content: the whole document, secrets in plain text or ``***``.
        vault: encrypts new secrets.
        stored: the document that it replaces, with encrypted secrets.
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
                problems.append(_secret_missing(index, name))
    return safe, problems


def rewritten(content: Mapping[str, Any], rewrite: Callable[[str], str]) -> dict[str, Any]:
    """A copy of a stored document with another form of each encrypted secret."""
    copied = copy.deepcopy(dict(content))
    for _, headers in _secrets(copied):
        headers.update({name: rewrite(value) for name, value in headers.items()})
    return copied


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
        if other.get("url") == function.get("url"):
            secrets: Mapping[str, str] = other.get("secret_headers", {})
            return secrets
    return {}


def _secret_missing(index: int, name: str) -> Problem:
    return Problem(
        pointer=pointer("functions", index, "secret_headers", name),
        code="secret_missing",
        message=f"'{HIDDEN}' keeps the secret that was saved with this URL; '{name}' has none.",
        remedy="Send the secret itself. It must be sent again when the URL of a function changes.",
    )
