"""Greetings synthesised ahead of time, so that an agent's first words need no model and no synthesis.

Audio is raw PCM (16 bit, little endian, mono) at the rate of the call. It is cached in memory and, across
restarts and replicas, in the database; both are bounded. A call uses what is ready and never waits. Audio
that says values of a lead is kept in memory for an hour, and in the database as long as the lead's payload.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from uuid import UUID

from loguru import logger

from db import greetings as stored
from db.errors import DatabaseError, NotFound
from db.pool import Database
from voicebot.providers.provider import SYNTHESIS_TIMEOUT_S, SpokenText, SynthesisFailed
from voicebot.providers.registry import Providers
from voicebot.providers.service_spec import SAMPLE_RATE

MEMORY_BYTES = 64 * 1024 * 1024
MAX_AUDIO_S = 60

LEAD_MEMORY_S = 3600.0
"""How long audio with the values of a lead is kept in memory, in seconds: as long as most calls."""


class Greetings:
    """The greetings of all calls of this process."""

    def __init__(
        self, database: Database, providers: Providers, *, lead_memory_s: float = LEAD_MEMORY_S
    ) -> None:
        self._database = database
        self._providers = providers
        self._lead_memory_s = lead_memory_s
        self._memory: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._making: dict[str, asyncio.Task[bytes]] = {}

    def ready(self, spoken: SpokenText) -> bytes | None:
        """The audio of a text if it is in memory, without waiting."""
        audio = self._memory.get(key := self._key(spoken))
        if audio is not None:
            self._memory.move_to_end(key)
        return audio

    async def prepare(self, spoken: SpokenText) -> bytes:
        """The audio of a text: from memory, the database, or the provider. Equal requests share one.

        Raises:
            SynthesisFailed: the provider refused or did not answer in time.
        """
        key = self._key(spoken)
        audio = self._memory.get(key)
        if audio is not None:
            return audio
        task = self._making.get(key)
        if task is None:
            task = asyncio.create_task(self._make(key, spoken))
            self._making[key] = task
            task.add_done_callback(lambda _: self._making.pop(key, None))
        return await asyncio.shield(task)

    async def _make(self, key: str, spoken: SpokenText) -> bytes:
        audio = await self._from_database(spoken.account_id, key)
        if audio is None:
            audio = await self._synthesise(spoken)
            await self._into_database(spoken, key, audio)
        self._remember(key, audio)
        if spoken.lead_id is not None:
            asyncio.get_running_loop().call_later(self._lead_memory_s, self._forget, key)
        return audio

    async def _from_database(self, account_id: UUID, key: str) -> bytes | None:
        try:
            return await stored.get(self._database, account_id, key)
        except NotFound:
            return None
        except DatabaseError as error:
            logger.warning("greetings: the database cannot be read: {}", type(error).__name__)
            return None

    async def _into_database(self, spoken: SpokenText, key: str, audio: bytes) -> None:
        try:
            await stored.put(self._database, spoken.account_id, key, audio, lead_id=spoken.lead_id)
        except DatabaseError as error:
            logger.warning("greetings: not kept in the database: {}", type(error).__name__)

    async def _synthesise(self, spoken: SpokenText) -> bytes:
        try:
            async with asyncio.timeout(SYNTHESIS_TIMEOUT_S):
                audio = await self._providers.synthesise(spoken.content, spoken.text, spoken.sample_rate)
        except TimeoutError as error:
            raise SynthesisFailed("TimeoutError") from error
        if not 0 < len(audio) <= MAX_AUDIO_S * spoken.sample_rate * 2:
            raise SynthesisFailed(f"{len(audio)} bytes of audio")
        return audio[: len(audio) // 2 * 2]

    def _remember(self, key: str, audio: bytes) -> None:
        self._bytes += len(audio) - len(self._memory.get(key, b""))
        self._memory[key] = audio
        self._memory.move_to_end(key)
        while self._bytes > MEMORY_BYTES:
            _, oldest = self._memory.popitem(last=False)
            self._bytes -= len(oldest)

    def _forget(self, key: str) -> None:
        self._bytes -= len(self._memory.pop(key, b""))

    def _key(self, spoken: SpokenText) -> str:
        voice = self._providers.tts_key(spoken.content)
        rate = "" if spoken.sample_rate == SAMPLE_RATE else f"\0{spoken.sample_rate}"
        return hashlib.sha256(f"{spoken.account_id}\0{voice}\0{spoken.text}{rate}".encode()).hexdigest()
