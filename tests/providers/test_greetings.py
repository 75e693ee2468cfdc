"""Greetings that are synthesised ahead of time, and how long they are kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

from db.pool import Database
from templates.model import TemplateContent
from tests.db.seed import seed_account
from voicebot.providers.greetings import Greetings
from voicebot.providers.provider import SpokenText
from voicebot.providers.registry import Providers

CONTENT = TemplateContent.model_validate({"name": "Reminder"})


class _Providers:
    """Synthesises texts as themselves."""

    @staticmethod
    def tts_key(_: TemplateContent) -> str:
        return "voice"

    @staticmethod
    async def synthesise(_: TemplateContent, text: str, sample_rate: int) -> bytes:
        assert sample_rate
        return text.encode().ljust(20)


async def test_audio_with_values_of_a_lead_leaves_the_memory(database: Database) -> None:
    """After its time it is only in the database, with the lead; audio without values stays."""
    seeded = await seed_account(database)
    made: Any = cast(Providers, _Providers())
    greetings = Greetings(database, made, lead_memory_s=0.05)
    ada = SpokenText(
        account_id=seeded.id, content=CONTENT, text="Hello Ada", sample_rate=8000, lead_id=seeded.call.lead_id
    )
    everybody = replace(ada, text="Hello", lead_id=None)
    audio = await greetings.prepare(ada)
    await greetings.prepare(everybody)
    async with asyncio.timeout(60):
        while greetings.ready(ada) is not None:
            await asyncio.sleep(0.01)
    assert greetings.ready(everybody) is not None
    rows = await database.fetch("SELECT audio, lead_id FROM greetings")
    stored = {row["audio"].strip(): row["lead_id"] for row in rows}
    assert stored == {b"Hello Ada": ada.lead_id, b"Hello": None}
    assert await greetings.prepare(ada) == audio
