"""Short-lived tokens for the event stream, for clients without headers, such as a browser's EventSource."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

LIFETIME = timedelta(seconds=60)
"""How long a token can open the stream. An open stream lasts as long as the API key is valid."""

_PREFIX = "vs_"


class TokenRefused(Exception):
    """The token is invalid or expired; create another one."""


class StreamTokens:
    """Issues and reads tokens; replicas that share a key accept each other's tokens."""

    def __init__(self, *keys: bytes) -> None:
        """Encrypt with the first of ``keys``, which are those of ``Settings.fernet_keys``."""
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def issue(self, account_id: UUID, key_id: UUID, now: datetime) -> str:
        """Issue a token that stands for an API key of an account."""
        sealed = self._fernet.encrypt_at_time(b"stream" + account_id.bytes + key_id.bytes, _seconds(now))
        return _PREFIX + sealed.decode()

    def read(self, token: str, now: datetime) -> tuple[UUID, UUID]:
        """Read the account and the API key that a token stands for.

        Raises:
            TokenRefused: the token is invalid or expired.
        """
        try:
            lifetime = round(LIFETIME.total_seconds())
            content = self._fernet.decrypt_at_time(
                token.removeprefix(_PREFIX).encode("ascii", "replace"), lifetime, _seconds(now)
            )
        except InvalidToken:
            raise TokenRefused("The token is invalid or expired; create another one.") from None
        if len(content) != 38 or not content.startswith(b"stream"):
            raise TokenRefused("The token is not one for the event stream.")
        return UUID(bytes=content[6:22]), UUID(bytes=content[22:])


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
