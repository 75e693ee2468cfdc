"""What the vendors are told follows from the template, and what its author says of a vendor goes first."""

from __future__ import annotations

from typing import Any

from templates.model import TemplateContent
from voicebot.call.audio.services import VendorServices
from voicebot.config import Settings


def heard_as(**members: Any) -> str:
    """The key of an agent's ear, which holds all its settings."""
    content = TemplateContent.model_validate({"name": "Desk", **members})
    return VendorServices(Settings(_env_file=None)).stt(content).key


async def test_an_agent_hears_the_language_that_it_speaks() -> None:
    """Without another word the transcriber expects the agent's own language."""
    assert '"language":"de-DE"' in heard_as(language="de-DE")


async def test_an_agent_may_hear_more_than_it_speaks() -> None:
    """A desk that greets callers of any language listens to many and speaks one."""
    settings = {"language": "multi", "endpointing": 50}
    key = heard_as(language="en-US", stt={"model": "nova-3", "settings": settings})
    assert '"language":"multi"' in key
    assert '"endpointing":50' in key
