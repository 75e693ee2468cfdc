"""Tokens for what sends no header, such as a browser's EventSource: for a minute, for the stream alone."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from cryptography.fernet import Fernet, InvalidToken

LIFE = timedelta(seconds=60)
"""How long a token opens the stream. An open stream lasts, for as long as the key behind it is good."""

_PREFIX = "vs_"


class TokenRefused(Exception):
    """The token is none of ours, or too old; ask for another one."""


class StreamTokens:
    """Makes and reads tokens; replicas that share a key understand one another."""

    def __init__(self, key: bytes) -> None:
        """Use ``key``: urlsafe base64 of 32 bytes (``Settings.fernet_key``)."""
        self._fernet = Fernet(key)

    def issue(self, account_id: UUID, key_id: UUID, now: datetime) -> str:
        """A token that stands for an API key of an account."""
        sealed = self._fernet.encrypt_at_time(b"stream" + account_id.bytes + key_id.bytes, _seconds(now))
        return _PREFIX + sealed.decode()

    def read(self, token: str, now: datetime) -> tuple[UUID, UUID]:
        """The account and the key a token stands for.

        Raises:
            TokenRefused: it is not one, or too old.
        """
        try:
            life = round(LIFE.total_seconds())
            opened = self._fernet.decrypt_at_time(
                token.removeprefix(_PREFIX).encode("ascii", "replace"), life, _seconds(now)
            )
        except InvalidToken:
            raise TokenRefused("The token is unknown or too old; ask for another one.") from None
        if len(opened) != 38 or not opened.startswith(b"stream"):
            raise TokenRefused("The token does not open this.")
        return UUID(bytes=opened[6:22]), UUID(bytes=opened[22:])


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
