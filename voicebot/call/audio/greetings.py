"""Greetings synthesised ahead of time, so that an agent's first words need no model and no synthesis.

Audio is raw PCM (16 bit, little endian, mono, 8,000 Hz). It is cached in memory and, across restarts and
replicas, in the database; both are bounded. A call takes what is ready and never waits.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from uuid import UUID

from elevenlabs.client import AsyncElevenLabs
from elevenlabs.core.api_error import ApiError
from elevenlabs.types import VoiceSettings
from httpx import HTTPError
from loguru import logger

from db import greetings as stored
from db.errors import DatabaseError, NotFound
from db.pool import Database
from templates.model import TemplateContent
from voicebot.call.audio.services import tts_key
from voicebot.config import Settings

MEMORY_BYTES = 64 * 1024 * 1024
MAX_AUDIO_BYTES = 60 * 16_000  # a minute: a greeting that is longer is a lecture
SYNTHESIS_TIMEOUT_S = 15.0
DEFAULT_MODEL = "eleven_flash_v2_5"
_VOICE_SETTINGS = ("stability", "similarity_boost", "style", "use_speaker_boost", "speed")


class SynthesisFailed(Exception):
    """The greeting could not be synthesised; the agent will begin by itself."""


class Greetings:
    """The greetings of all calls of this process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        key = settings.elevenlabs_api_key
        self._vendor = AsyncElevenLabs(
            api_key=key.get_secret_value() if key else "missing",
            base_url=settings.elevenlabs_url,
            timeout=SYNTHESIS_TIMEOUT_S,
        )
        self._memory: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._making: dict[str, asyncio.Task[bytes]] = {}

    def ready(self, account_id: UUID, content: TemplateContent, text: str) -> bytes | None:
        """The audio of ``text`` in the template's voice if it is at hand, without waiting."""
        audio = self._memory.get(key := _key(account_id, content, text))
        if audio is not None:
            self._memory.move_to_end(key)
        return audio

    async def prepare(self, account_id: UUID, content: TemplateContent, text: str) -> bytes:
        """Have the audio of ``text`` at hand: from memory, the database, or the vendor. Equal requests share.

        Raises:
            SynthesisFailed: the vendor refused or did not answer in time.
        """
        key = _key(account_id, content, text)
        audio = self._memory.get(key)
        if audio is not None:
            return audio
        task = self._making.get(key)
        if task is None:
            task = asyncio.create_task(self._make(key, account_id, content, text))
            self._making[key] = task
            task.add_done_callback(lambda _: self._making.pop(key, None))
        return await asyncio.shield(task)

    async def _make(self, key: str, account_id: UUID, content: TemplateContent, text: str) -> bytes:
        audio = await self._from_database(account_id, key)
        if audio is None:
            audio = await self._synthesise(content, text)
            await self._into_database(account_id, key, audio)
        self._remember(key, audio)
        return audio

    async def _from_database(self, account_id: UUID, key: str) -> bytes | None:
        try:
            return await stored.get(self._database, account_id, key)
        except NotFound:
            return None
        except DatabaseError as error:
            logger.warning("greetings: the database cannot be read: {}", type(error).__name__)
            return None

    async def _into_database(self, account_id: UUID, key: str, audio: bytes) -> None:
        try:
            await stored.put(self._database, account_id, key, audio)
        except DatabaseError as error:
            logger.warning("greetings: not kept in the database: {}", type(error).__name__)

    async def _synthesise(self, content: TemplateContent, text: str) -> bytes:
        given = {k: v for k, v in content.tts.settings.items() if k in _VOICE_SETTINGS and v is not None}
        try:
            async with asyncio.timeout(SYNTHESIS_TIMEOUT_S):
                chunks = self._vendor.text_to_speech.convert(
                    content.tts.voice_id,
                    text=text,
                    model_id=content.tts.model or DEFAULT_MODEL,
                    output_format="pcm_8000",
                    voice_settings=VoiceSettings(**given) if given else None,
                )
                audio = b"".join([chunk async for chunk in chunks])
        except (ApiError, HTTPError, TimeoutError) as error:
            raise SynthesisFailed(type(error).__name__) from error
        if not 0 < len(audio) <= MAX_AUDIO_BYTES:
            raise SynthesisFailed(f"{len(audio)} bytes of audio")
        return audio[: len(audio) // 2 * 2]

    def _remember(self, key: str, audio: bytes) -> None:
        self._bytes += len(audio) - len(self._memory.get(key, b""))
        self._memory[key] = audio
        self._memory.move_to_end(key)
        while self._bytes > MEMORY_BYTES:
            _, oldest = self._memory.popitem(last=False)
            self._bytes -= len(oldest)


def _key(account_id: UUID, content: TemplateContent, text: str) -> str:
    return hashlib.sha256(f"{account_id}\0{tts_key(content)}\0{text}".encode()).hexdigest()
