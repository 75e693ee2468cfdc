"""Sends notices up to a step, reports the step, and waits: ``python -m tests.handoffs.delivery_process``.

Arguments: DSN PORT STEP. ``claimed``: before a byte is sent; ``answered``: the recipient has it, nothing here
knows; ``recording``: it is written down, and not committed; ``none``: it sends everything.
"""

import asyncio
import sys
from datetime import timedelta

from cryptography.fernet import Fernet

from db.outbox import NoticeRecord
from db.pool import Database, Transaction
from voicebot.clock import SystemClock
from voicebot.handoffs.webhook_sender import WebhookSender
from voicebot.outbox import Outbox, OutboxSettings, Sender, Sent
from voicebot.vault import Vault

SETTINGS = OutboxSettings(lease=timedelta(seconds=1), timeout_s=60, poll_s=0.05)


class Stopping:
    """A sender that stops at a step."""

    def __init__(self, sender: Sender, step: str) -> None:
        self._sender = sender
        self._step = step

    async def send(self, notice: NoticeRecord) -> Sent:
        """See ``voicebot.outbox.Sender``."""
        await self._at("claimed")
        sent = await self._sender.send(notice)
        await self._at("answered")

        async def effect(transaction: Transaction, recorded: NoticeRecord) -> None:
            del transaction, recorded
            await self._at("recording")

        return Sent(status_code=sent.status_code, effect=effect)

    async def _at(self, step: str) -> None:
        if step == self._step:
            print(step, flush=True)
            await asyncio.Event().wait()


async def main(dsn: str, port: str, step: str) -> None:
    """Send until killed."""
    database = await Database.connect(dsn, max_size=3)
    clock = SystemClock()
    webhooks = WebhookSender(
        database, Vault(Fernet.generate_key()), clock, allow=frozenset({f"127.0.0.1:{port}"})
    )
    await Outbox(database, clock, {"slack": Stopping(webhooks, step)}, SETTINGS).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
