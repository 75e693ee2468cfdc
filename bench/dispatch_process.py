"""A process of `bench.dispatch` that dials leads: ``python -m bench.dispatch_process DSN PORT [POLL_S]``."""

from __future__ import annotations

import asyncio
import sys

from cryptography.fernet import Fernet
from loguru import logger

from bench.dispatch_carrier import CarrierClient
from db import notify
from db.calls import CallRecord
from db.dispatch import CHANNEL
from db.pool import Database
from handlers.http import CheckedNetwork, HttpClient
from voicebot.clock import SystemClock
from voicebot.dispatch.breaker import Breakers
from voicebot.dispatch.dispatcher import DialUrls, Dispatcher
from voicebot.dispatch.finaliser import Finaliser
from voicebot.dispatch.precheck import Prechecks
from voicebot.vault import Vault


async def _prepare(_: CallRecord) -> None:
    await asyncio.sleep(0)


async def main(dsn: str, port: str, poll_s: str = "") -> None:
    """Dial and finalise until killed; with ``poll_s``, look for leads every so many seconds instead."""
    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    database, clock = await Database.connect(dsn, max_size=12), SystemClock()
    carrier = CarrierClient(int(port)).as_carrier()
    carriers, breakers = {"twilio": carrier}, Breakers(database, clock, {"twilio": "bench"})
    urls = DialUrls(origin="https://bench.example.com", token=lambda call: str(call.id))
    prechecks = Prechecks(database, clock, Vault(Fernet.generate_key()), HttpClient(CheckedNetwork()))
    dispatcher = Dispatcher(database, clock, carriers, breakers, urls, _prepare, prechecks)
    finaliser = Finaliser(database, clock, carriers, breakers)

    def woken(_: str) -> None:
        finaliser.wake()
        if not poll_s:
            dispatcher.wake()

    async def poll() -> None:
        while True:
            await dispatcher.run_once()
            await asyncio.sleep(float(poll_s))

    print("ready", flush=True)
    await asyncio.gather(
        poll() if poll_s else dispatcher.run(), finaliser.run(), notify.listen(dsn, CHANNEL, woken)
    )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
