"""Short-lived signed tokens, which any replica with the same secret key verifies without the database.

One kind opens the event stream for clients without headers, such as a browser's EventSource; the other opens
the media stream of one call.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

MAX_LENGTH = 300
"""Only this many characters of a token are read; a valid one is shorter."""


@dataclass(frozen=True, slots=True)
class TokenKind:
    """What a token is for. A token of one kind is refused as one of another kind."""

    purpose: bytes
    prefix: str = ""
    lifetime: timedelta = timedelta(seconds=60)


EVENT_STREAM = TokenKind(b"stream", prefix="vs_")
"""Contains an account and an API key. An open stream lasts as long as the API key is valid."""

MEDIA_STREAM = TokenKind(b"media")
"""Contains an account and a call; the carrier opens the media stream within a second or two."""


DIALLED_STREAM = TokenKind(b"dialled", lifetime=timedelta(minutes=3))
"""The same for a dialled call, whose stream begins when it is answered."""


ANNOUNCEMENT = TokenKind(b"announcement")
"""Contains an account and a number: the stream plays an announcement to a caller of the number."""


class TokenRefused(Exception):
    """The token is invalid or expired; create another one."""


class SignedTokens:
    """Issues and reads tokens of one kind; replicas that share a key accept each other's tokens."""

    def __init__(self, kind: TokenKind, *keys: bytes) -> None:
        """Encrypt with the first of ``keys``, which are those of ``Settings.fernet_keys``."""
        self._kind = kind
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def issue(self, account_id: UUID, subject_id: UUID, now: datetime) -> str:
        """Issue a token for an account and its subject, which the kind determines."""
        content = self._kind.purpose + account_id.bytes + subject_id.bytes
        return self._kind.prefix + self._fernet.encrypt_at_time(content, _seconds(now)).decode()

    def read(self, token: str, now: datetime, *, lifetime: timedelta | None = None) -> tuple[UUID, UUID]:
        """Read the account and the subject of a token.

        Args:
            token: the token.
            now: the present moment.
            lifetime: how old it may be; None: as old as its kind says.

        Raises:
            TokenRefused: the token is invalid, expired or of another kind.
        """
        allowed_s = round((lifetime or self._kind.lifetime).total_seconds())
        sealed = token[:MAX_LENGTH].removeprefix(self._kind.prefix).encode("ascii", "replace")
        try:
            content = self._fernet.decrypt_at_time(sealed, allowed_s, _seconds(now))
        except InvalidToken:
            raise TokenRefused("The token is invalid or expired; create another one.") from None
        ids = content.removeprefix(self._kind.purpose)
        if len(ids) != 32 or not content.startswith(self._kind.purpose):
            raise TokenRefused("The token is of another kind.")
        return UUID(bytes=ids[:16]), UUID(bytes=ids[16:])


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
