"""Finding words: results told, arguments asked for, and small talk that keeps to the topic."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from voicebot.sandbox.model.instructions import role
from voicebot.sandbox.model.scene import Done, Scene
from voicebot.sandbox.model.words import EMPTY, tokens

_TOLD_AT_MOST = 4
_TOPIC_WORDS = 5
_STATUS = frozenset({"status", "ok", "success", "code", "retryable", "type", "id"})
NOTHING_TO_TELL = "That is done."
ELSE = "Is there anything else I can do for you?"
_ANSWERS = (
    "I see, {topic}. Tell me a little more, please.",
    "All right, {topic}. What can I do about it?",
    "Thank you for telling me about {topic}. How would you like to go on?",
)
_DONE = frozenset({"acknowledged", "done", "ok", "success", "recorded", "in_progress"})


def introduction(scene: Scene) -> str:
    """Say who is speaking, as far as the instructions tell."""
    who = role((*scene.role, *scene.step))
    return f"Hello, this is {who}. How can I help you?" if who else "Hello! How can I help you?"


def small_talk(scene: Scene) -> str:
    """Answer with something short about what the caller spoke of."""
    words = topic(scene.words)
    if not words:
        return "How can I help you?" if len(scene.turns) < 2 else ELSE
    return _ANSWERS[len(scene.turns) % len(_ANSWERS)].format(topic=words)


def topic(words: str) -> str:
    """Return what an utterance is about, in its own words."""
    bare = [word.strip(".,!?;:\"'") for word in words.split()]
    about = [index for index, word in enumerate(bare) if set(tokens(word)) - EMPTY]
    if not about:
        return ""
    last = max(index for index in about if index - about[0] < _TOPIC_WORDS)
    phrase = " ".join(bare[about[0] : last + 1])
    return re.sub(r"\b(my|mine)\b", "your", re.sub(r"\bI\b", "you", phrase))


def question(missing: Sequence[str]) -> str:
    """Ask for the first argument that is missing."""
    return f"Could you tell me the {spaced(missing[0])}, please?"


def which(names: Sequence[str]) -> str:
    """Ask which of several is meant."""
    spoken = [spaced(name) for name in names]
    return f"Would you like {', '.join(spoken[:-1])} or {spoken[-1]}?"


def outcomes(done: Sequence[Done], step: str = "") -> str:
    """Tell the caller what the last tools answered, without what the next `step` says anyway."""
    told = list(dict.fromkeys(outcome(one, step) for one in done[-2:]))
    return " ".join(text for text in told if text != NOTHING_TO_TELL) or NOTHING_TO_TELL


def outcome(done: Done, step: str = "") -> str:
    """Tell the caller what a tool answered, without what it was told and what `step` says."""
    result = done.result
    if isinstance(result, Mapping):
        if refused(result):
            return _refusal(done, result)
        known = {str(value) for value in done.arguments.values()}
        news = [
            (key, value) for key, value in _facts(result) if value not in known and not _says(step, value)
        ]
        facts = [f"the {spaced(key)} is {value}" for key, value in news]
        return _sentences(facts[:_TOLD_AT_MOST]) or NOTHING_TO_TELL
    if isinstance(result, str) and result.strip().lower() not in _DONE and result.strip():
        return _sentences([result.strip()])
    if isinstance(result, list) and result:
        return f"I found {len(result)}: {_enumerate(result)}."
    return NOTHING_TO_TELL


def _says(text: str, value: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.IGNORECASE))


def refused(result: Any) -> bool:
    """Tell whether a tool's result says that it was not done."""
    if not isinstance(result, Mapping):
        return False
    status = str(result.get("status", "")).lower()
    return status in ("refused", "error", "failed") or bool(result.get("error"))


def spaced(name: str) -> str:
    """Speak a name as words: "invoice_number" is "invoice number"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").replace("-", " ").lower()


def _refusal(done: Done, result: Mapping[str, Any]) -> str:
    target = done.arguments.get("agent")
    if isinstance(target, str):
        return f"I am sorry, I cannot put you through to {spaced(target)} right now. How else can I help you?"
    reason = result.get("message") or result.get("error")
    told = f" {reason.rstrip('. ')}." if isinstance(reason, str) and len(reason) < 200 else ""
    return f"I am sorry, that did not work.{told}"


def _facts(result: Mapping[str, Any], within: str = "") -> list[tuple[str, str]]:
    """Flatten a result into names and values worth saying; what only programs read is left out."""
    facts: list[tuple[str, str]] = []
    for key, value in result.items():
        name = f"{within} {key}".strip()
        if isinstance(value, Mapping):
            facts.extend(_facts(value, name))
        elif isinstance(value, bool):
            facts.append((name, "yes" if value else "no"))
        elif isinstance(value, list) and value:
            facts.append((name, _enumerate(value)))
        elif isinstance(value, str | int | float) and value != "":
            facts.append((name, str(value)))
    telling = [fact for fact in facts if fact[0] not in _STATUS]
    return telling or [fact for fact in facts if fact[1].lower() not in _DONE and fact[0] == "status"]


def _enumerate(values: Sequence[Any]) -> str:
    spoken = [
        " ".join(str(part) for part in value.values() if isinstance(part, str | int | float))
        if isinstance(value, Mapping)
        else str(value)
        for value in values[:3]
    ]
    return " and ".join([", ".join(spoken[:-1]), spoken[-1]] if len(spoken) > 1 else spoken)


def _sentences(parts: Sequence[str]) -> str:
    return " ".join(f"{part[:1].upper()}{part[1:].rstrip('. ')}." for part in parts)
