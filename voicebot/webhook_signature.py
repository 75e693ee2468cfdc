"""Signatures of this server's webhooks, as specified by https://www.standardwebhooks.com."""

from __future__ import annotations

import base64
import secrets
from datetime import datetime

from standardwebhooks.webhooks import Webhook


def new_signing_secret() -> str:
    """A new key: 32 random bytes."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def signature_headers(secret: str, message_id: str, at: datetime, body: str) -> dict[str, str]:
    """The headers that sign a body: the time and the signature; `webhook-id` is the caller's."""
    return {
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, at, body),
    }
