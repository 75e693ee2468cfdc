"""Notices by HTTP: Slack-compatible webhooks, signed webhooks, and ticket systems.

They go to a channel, or to the webhook of a template, which is signed with the key of its account.

Signatures follow https://www.standardwebhooks.com (webhook-id, webhook-timestamp, webhook-signature). The
webhook-id is the notice's id at every attempt. Private addresses are refused, as for HTTP functions.
"""

from __future__ import annotations

import html
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpcore

from db import account_settings, channels, handoff_events, handoff_transitions
from db.channels import ChannelKind, ChannelRecord
from db.errors import NotFound
from db.outbox import NoticeRecord
from db.pool import Database, Transaction
from handlers.http.client import public_tls, retry_after
from handlers.http.errors import AddressRefused
from handlers.http.network import CheckedNetwork
from voicebot.clock import Clock
from voicebot.outbox import Effect, NotSent, Sent
from voicebot.vault import SecretUnreadable, Vault
from voicebot.webhook_signature import new_signing_secret, signature_headers

TIMEOUT_S = 10.0
READ_LIMIT = 64 * 1024
"""How much of a response is read, in bytes."""

_GONE = 410
"""The status with which a receiver says that it wants no more; every other failure may pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Receiver:
    """Where a notice goes; ``secret`` is the encrypted signing key."""

    kind: ChannelKind
    url: str
    secret: str | None


class WebhookSender:
    """Posts a notice's message to its channel; the ``id`` in a ticket system's response is stored."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        clock: Clock,
        *,
        allow: frozenset[str] = frozenset(),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Send to channels of ``database``.

        Args:
            database: the database.
            vault: decrypts signing keys.
            clock: the time.
            allow: ``host:port`` of private addresses that may be reached.
            tls: the TLS settings; None: the default ones.
        """
        self._db = database
        self._vault = vault
        self._clock = clock
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or public_tls(),
            # The outbox limits how many are used at once.
            max_connections=None,
            max_keepalive_connections=32,
            keepalive_expiry=4.0,
            network_backend=CheckedNetwork(allow),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    async def send(self, notice: NoticeRecord) -> Sent:
        """See ``voicebot.outbox.Sender``."""
        receiver = await self._receiver(notice)
        body = json.dumps(_message(receiver, notice), separators=(",", ":"), ensure_ascii=False).encode()
        status, headers, answer = await self._post(receiver.url, self._headers(receiver, notice, body), body)
        if 200 <= status < 300:
            note_id = _ticket_id(answer) if receiver.kind == "ticket" else None
            effect = self._store_note_id(note_id) if note_id else None
            return Sent(status_code=status, remote_id=note_id, effect=effect)
        raise NotSent(
            f"answered {status}",
            retryable=status != _GONE,
            status_code=status,
            retry_after=retry_after(headers.get("retry-after"), self._clock.now()),
        )

    async def _receiver(self, notice: NoticeRecord) -> _Receiver:
        if notice.url is not None:
            secret = await account_settings.webhook_secret(
                self._db, notice.account_id, self._vault.seal(new_signing_secret())
            )
            return _Receiver(kind="webhook", url=notice.url, secret=secret)
        channel = await self._channel(notice)
        return _Receiver(kind=channel.kind, url=channel.url, secret=channel.secret)

    async def _channel(self, notice: NoticeRecord) -> ChannelRecord:
        if notice.channel_id is None:
            raise NotSent("the notice has no channel", retryable=False)
        try:
            channel = await channels.get(self._db, notice.account_id, notice.channel_id)
        except NotFound:
            raise NotSent("the channel does not exist", retryable=False) from None
        if channel.deleted_at is not None:
            raise NotSent("the channel was deleted", retryable=False)
        return channel

    def _headers(self, receiver: _Receiver, notice: NoticeRecord, body: bytes) -> dict[str, str]:
        headers = {"content-type": "application/json", "webhook-id": str(notice.id)}
        if receiver.secret is not None:
            try:
                secret = self._vault.open(receiver.secret)
            except SecretUnreadable:
                raise NotSent("the signing key cannot be read", retryable=False) from None
            headers |= signature_headers(secret, str(notice.id), self._clock.now(), body.decode())
        return headers

    async def _post(
        self, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        limits = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), TIMEOUT_S)}
        answer = b""
        try:
            async with self._pool.stream(
                "POST", url, headers=pairs, content=body, extensions=limits
            ) as response:
                async for part in response.aiter_stream():
                    answer += part
                    if len(answer) > READ_LIMIT:
                        break
                received = {
                    name.decode().lower(): value.decode("latin-1") for name, value in response.headers
                }
                return response.status, received, answer[:READ_LIMIT]
        except AddressRefused:
            raise NotSent("the address is not public", retryable=False) from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            raise NotSent(type(error).__name__) from None
        except (httpcore.UnsupportedProtocol, ValueError, TypeError, OverflowError):
            raise NotSent("the URL is not valid", retryable=False) from None

    def _store_note_id(self, note_id: str) -> Effect:
        async def store(transaction: Transaction, notice: NoticeRecord) -> None:
            if notice.handoff_id is None:
                return
            noted = await handoff_transitions.set_note_id(
                transaction, notice.account_id, notice.handoff_id, note_id
            )
            if noted is not None:
                await handoff_events.append_change(transaction, noted, "handoff.noted", self._clock.now())

        return store


def _message(receiver: _Receiver, notice: NoticeRecord) -> Mapping[str, Any]:
    """The notice's message. Slack's control characters are escaped: `<!channel>` in a reason notifies all.

    See https://docs.slack.dev/messaging/formatting-message-text/#escaping.
    """
    if receiver.kind != "slack":
        return notice.message
    return {**notice.message, "text": html.escape(str(notice.message["text"]), quote=False)}


def _ticket_id(answer: bytes) -> str | None:
    """The ``id`` of a JSON response."""
    try:
        document: Any = json.loads(answer)
    except ValueError:
        return None
    name = document.get("id") if isinstance(document, dict) else None
    return str(name)[:200] if isinstance(name, str | int) and not isinstance(name, bool) else None
