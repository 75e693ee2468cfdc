"""The health of providers, known at once in a process and shared through the database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from db.pool import Database
from voicebot.providers.health import Key, ProviderHealths
from voicebot.providers.provider import Credential

TTS: Key = ("tts", "elevenlabs")


class SetClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def monotonic_ms(self) -> float:
        return 0.0


def healths(database: Database, clock: SetClock, key: str = "first") -> ProviderHealths:
    """The health as one process knows it."""
    credential = Credential(variable="ELEVENLABS_API_KEY", fingerprint=key)
    return ProviderHealths(database, clock, {TTS: (credential, True)})


def refused() -> InvalidStatus:
    """A handshake that was answered with 401."""
    return InvalidStatus(Response(401, "", Headers()))


async def test_another_process_knows_of_a_failure(database: Database) -> None:
    """What one process reports is known to itself at once, and to another one when it reads."""
    clock = SetClock()
    here, there = healths(database, clock), healths(database, clock)
    here.failed(*TTS, refused(), "")
    assert not here.is_usable(*TTS)
    assert there.is_usable(*TTS)
    await here.close()
    await there.refresh()
    assert there.state(*TTS) == "unauthorized"
    [status] = there.statuses()
    assert (status.credential, status.health.reason) == ("ELEVENLABS_API_KEY", "HTTP 401")


async def test_failures_of_several_processes_add_up(database: Database) -> None:
    """One failure in each of two processes is an outage for both."""
    clock = SetClock()
    here, there = healths(database, clock), healths(database, clock)
    here.failed(*TTS, TimeoutError(), "")
    await here.close()
    there.failed(*TTS, TimeoutError(), "")
    await there.close()
    await here.refresh()
    assert [each.state(*TTS) for each in (here, there)] == ["outage", "outage"]


async def test_one_process_probes(database: Database) -> None:
    """Of two processes that would try a provider again at the same time, one does."""
    clock = SetClock()
    here, there = healths(database, clock), healths(database, clock)
    here.failed(*TTS, refused(), "")
    await here.close()
    await there.refresh()
    assert not await there.may_probe(*TTS)
    clock.time += timedelta(seconds=61)
    claims = await asyncio.gather(here.may_probe(*TTS), there.may_probe(*TTS))
    assert sorted(claims) == [False, True]
    here.connected(*TTS)
    await here.close()
    await there.refresh()
    assert there.is_usable(*TTS)


async def test_another_key_is_not_blamed(database: Database) -> None:
    """A process with another key for the same provider is not told of a refused key."""
    clock = SetClock()
    here, there = healths(database, clock), healths(database, clock, "second")
    here.failed(*TTS, refused(), "")
    await here.close()
    await there.refresh()
    assert there.state(*TTS) == "ok"


async def test_a_provider_that_works_is_not_written(database: Database) -> None:
    """Only what changes is written: speech that arrives costs no statement."""
    here = healths(database, SetClock())
    for _ in range(100):
        here.worked(*TTS)
        here.connected(*TTS)
    await here.close()
    assert await database.fetch("SELECT 1 FROM provider_health") == []
