"""Rules about texts that are spoken as they are: what a voice cannot say."""

from __future__ import annotations

import re
from collections.abc import Iterator

from templates.check.context import CheckContext
from templates.check.rules import problem_for
from templates.functions import HttpFunction
from templates.model import TemplateContent
from templates.problem import Problem

_UNSPEAKABLE = (
    ("a web address", re.compile(r"https?://|\bwww\.\w", re.IGNORECASE)),
    (
        "Markdown",
        re.compile(
            r"\*\*[^*\n]+\*\*|__[^_\n]+__|`[^`\n]+`|^#{1,6} |^[-*] |\[[^\]\n]+\]\([^)\n]+\)", re.MULTILINE
        ),
    ),
    ("an emoji", re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\ufe0f]")),
)


def check_spoken(content: TemplateContent, _context: CheckContext) -> Iterator[Problem]:
    """Check greeting, idle prompts, announcements and waiting texts for what cannot be spoken."""
    for where, text in _spoken(content):
        for what, pattern in _UNSPEAKABLE:
            if found := pattern.search(text):
                message = f"The text is spoken as it is, and contains {what}: '{found.group()[:40]}'."
                yield problem_for("spoken_markup", where, message)


def _spoken(content: TemplateContent) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if content.greeting is not None:
        yield ("greeting", "text"), content.greeting.text
    for index, prompt in enumerate(content.idle.prompts):
        yield ("idle", "prompts", index), prompt
    yield ("idle", "goodbye"), content.idle.goodbye
    yield ("outbound", "voicemail", "message"), content.outbound.voicemail.message
    for place, refusal in content.inbound.all_refusals() if content.inbound is not None else ():
        yield ("inbound", *place, "text"), refusal.text
    for name, node in content.flow.nodes.items() if content.flow is not None else ():
        if node.say is not None:
            yield ("flow", "nodes", name, "say"), node.say
    for index, route in enumerate(content.routes):
        if route.announce is not None:
            yield ("routes", index, "announce"), route.announce
    for index, function in enumerate(content.functions):
        if isinstance(function, HttpFunction) and function.wait_text is not None:
            yield ("functions", index, "wait_text"), function.wait_text
