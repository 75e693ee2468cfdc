"""Notices by HTTP: Slack-compatible webhooks, webhooks signed by Standard Webhooks, and ticket systems.

Signatures are those of https://www.standardwebhooks.com (webhook-id, webhook-timestamp, webhook-signature).
The id is the notice's at every attempt. Addresses that are not public are refused, as for HTTP functions.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpcore
from standardwebhooks.webhooks import Webhook

from db import channels, handoff_events, handoff_transitions
from db.channels import ChannelRecord
from db.errors import NotFound
from db.outbox import NoticeRecord
from db.pool import Database, Transaction
from handlers.http.errors import AddressRefused
from handlers.http.network import CheckedNetwork
from voicebot.clock import Clock
from voicebot.handoffs import events
from voicebot.outbox import Effect, NotSent, Sent
from voicebot.vault import SecretUnreadable, Vault

TIMEOUT_S = 10.0
READ_LIMIT = 64 * 1024
"""How much of an answer is read, in bytes."""

_AGAIN = frozenset({408, 409, 425, 429})


class WebhookSender:
    """Posts a notice's message to its channel. Of tickets the answer's ``id`` is kept as the note's name."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        clock: Clock,
        *,
        allow: frozenset[str] = frozenset(),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """``allow``: ``host:port`` that are reached although they are not public."""
        self._db = database
        self._vault = vault
        self._clock = clock
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or httpcore.default_ssl_context(),
            max_connections=32,
            keepalive_expiry=4.0,
            network_backend=CheckedNetwork(allow),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    async def send(self, notice: NoticeRecord) -> Sent:
        """See ``voicebot.outbox.Sender``."""
        channel = await self._channel(notice)
        body = json.dumps(notice.message, separators=(",", ":"), ensure_ascii=False).encode()
        status, headers, answer = await self._post(channel.url, self._headers(channel, notice, body), body)
        if 200 <= status < 300:
            note_id = _named(answer) if channel.kind == "ticket" else None
            effect = self._kept(note_id) if note_id else None
            return Sent(status_code=status, remote_id=note_id, effect=effect)
        again = status >= 500 or status in _AGAIN
        raise NotSent(
            f"answered {status}",
            again=again,
            status_code=status,
            retry_after=_retry_after(headers.get("retry-after"), self._clock.now()),
        )

    async def _channel(self, notice: NoticeRecord) -> ChannelRecord:
        if notice.channel_id is None:
            raise NotSent("the notice has no channel", again=False)
        try:
            channel = await channels.get(self._db, notice.account_id, notice.channel_id)
        except NotFound:
            raise NotSent("the channel is gone", again=False) from None
        if channel.deleted_at is not None:
            raise NotSent("the channel was deleted", again=False)
        return channel

    def _headers(self, channel: ChannelRecord, notice: NoticeRecord, body: bytes) -> dict[str, str]:
        headers = {"content-type": "application/json", "webhook-id": str(notice.id)}
        if channel.secret is not None:
            now = self._clock.now()
            try:
                signing = Webhook(self._vault.open(channel.secret))
            except SecretUnreadable:
                raise NotSent("the channel's secret cannot be read", again=False) from None
            headers["webhook-timestamp"] = str(int(now.timestamp()))
            headers["webhook-signature"] = signing.sign(str(notice.id), now, body.decode())
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
                told = {name.decode().lower(): value.decode("latin-1") for name, value in response.headers}
                return response.status, told, answer[:READ_LIMIT]
        except AddressRefused:
            raise NotSent("the address is not public", again=False) from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            raise NotSent(type(error).__name__) from None
        except (httpcore.UnsupportedProtocol, ValueError, TypeError, OverflowError):
            raise NotSent("the address is not one that can be posted to", again=False) from None

    def _kept(self, note_id: str) -> Effect:
        async def keep(transaction: Transaction, notice: NoticeRecord) -> None:
            if notice.handoff_id is None:
                return
            noted = await handoff_transitions.note(transaction, notice.account_id, notice.handoff_id, note_id)
            if noted is not None:
                event = events.changed("handoff.noted", noted, self._clock.now())
                await handoff_events.append(transaction, notice.account_id, event)

        return keep


def _named(answer: bytes) -> str | None:
    """The ``id`` of a JSON answer."""
    try:
        document: Any = json.loads(answer)
    except ValueError:
        return None
    name = document.get("id") if isinstance(document, dict) else None
    return str(name)[:200] if isinstance(name, str | int) and not isinstance(name, bool) else None


def _retry_after(value: str | None, now: datetime) -> timedelta | None:
    """Seconds or an HTTP date (RFC 9110 section 10.2.3)."""
    if value is None:
        return None
    if value.strip().isdigit():
        return timedelta(seconds=min(int(value), 10**7))
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(timedelta(0), (at if at.tzinfo else at.replace(tzinfo=UTC)) - now)
