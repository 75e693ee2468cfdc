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
from templates.model import TemplateContent
from voicebot.providers.provider import SYNTHESIS_TIMEOUT_S, SynthesisFailed
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

    def ready(self, account_id: UUID, content: TemplateContent, text: str, sample_rate: int) -> bytes | None:
        """The audio of ``text`` in the template's voice if it is in memory, without waiting."""
        audio = self._memory.get(key := self._key(account_id, content, text, sample_rate))
        if audio is not None:
            self._memory.move_to_end(key)
        return audio

    async def prepare(
        self,
        account_id: UUID,
        content: TemplateContent,
        text: str,
        sample_rate: int,
        lead_id: UUID | None = None,
    ) -> bytes:
        """The audio of ``text``: from memory, the database, or the provider. Equal requests share one.

        ``lead_id`` is the lead whose values the text says; None: it is the same for everybody.

        Raises:
            SynthesisFailed: the provider refused or did not answer in time.
        """
        key = self._key(account_id, content, text, sample_rate)
        audio = self._memory.get(key)
        if audio is not None:
            return audio
        task = self._making.get(key)
        if task is None:
            task = asyncio.create_task(self._make(key, account_id, content, text, sample_rate, lead_id))
            self._making[key] = task
            task.add_done_callback(lambda _: self._making.pop(key, None))
        return await asyncio.shield(task)

    async def _make(
        self,
        key: str,
        account_id: UUID,
        content: TemplateContent,
        text: str,
        sample_rate: int,
        lead_id: UUID | None,
    ) -> bytes:
        audio = await self._from_database(account_id, key)
        if audio is None:
            audio = await self._synthesise(content, text, sample_rate)
            await self._into_database(account_id, key, audio, lead_id)
        self._remember(key, audio)
        if lead_id is not None:
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

    async def _into_database(self, account_id: UUID, key: str, audio: bytes, lead_id: UUID | None) -> None:
        try:
            await stored.put(self._database, account_id, key, audio, lead_id=lead_id)
        except DatabaseError as error:
            logger.warning("greetings: not kept in the database: {}", type(error).__name__)

    async def _synthesise(self, content: TemplateContent, text: str, sample_rate: int) -> bytes:
        try:
            async with asyncio.timeout(SYNTHESIS_TIMEOUT_S):
                audio = await self._providers.synthesise(content, text, sample_rate)
        except TimeoutError as error:
            raise SynthesisFailed("TimeoutError") from error
        if not 0 < len(audio) <= MAX_AUDIO_S * sample_rate * 2:
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

    def _key(self, account_id: UUID, content: TemplateContent, text: str, sample_rate: int) -> str:
        voice = self._providers.tts_key(content)
        rate = "" if sample_rate == SAMPLE_RATE else f"\0{sample_rate}"
        return hashlib.sha256(f"{account_id}\0{voice}\0{text}{rate}".encode()).hexdigest()
