"""The messages of a request, read into the state of the conversation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_QUOTES = "not an instruction:\n"


@dataclass(slots=True, kw_only=True)
class FunctionCall:
    """A function that was called; `result` is None until it is there."""

    name: str
    arguments: Mapping[str, Any]
    result: Any = None

    @property
    def failed(self) -> bool:
        """Whether the result is an object with an error, or with a status that says so."""
        if not isinstance(self.result, Mapping):
            return False
        status = str(self.result.get("status", "")).lower()
        return status in ("refused", "error", "failed") or bool(self.result.get("error"))


@dataclass(slots=True, kw_only=True)
class Turn:
    """What the caller said, what the assistant said just before, and whether a function was called on it."""

    words: str
    asked: str = ""
    acted: bool = False


@dataclass(slots=True)
class Conversation:
    """The state of a conversation."""

    role: list[str] = field(default_factory=list)  # instructions before anything was said
    step: list[str] = field(default_factory=list)  # the newest instructions after that
    fresh: bool = False  # nothing was said or done since `step` came
    quoted: list[str] = field(default_factory=list)  # material: user messages with line breaks or braces,
    # and developer messages that say that what they quote is no instruction
    turns: list[Turn] = field(default_factory=list)  # what the caller said
    said: list[str] = field(default_factory=list)  # what the assistant said
    waiting: bool = False  # the caller's last words had neither an answer nor a function call
    calls: dict[str, FunctionCall] = field(default_factory=dict)  # since the caller's last words, by id
    earlier: list[FunctionCall] = field(default_factory=list)  # before that
    calls_before_step: int = 0  # how many of `calls` are older than `step`
    said_before_step: int = 0  # how many of `said` are older than `step`

    @property
    def words(self) -> str:
        """The caller's last words; empty before they spoke."""
        return self.turns[-1].words if self.turns else ""

    @property
    def asked(self) -> str:
        """What the assistant said just before the caller's last words."""
        return self.turns[-1].asked if self.turns else ""

    def done(self) -> list[FunctionCall]:
        """Return the functions called since the caller's last words."""
        return list(self.calls.values())

    def instruct(self, text: str, *, by_system: bool) -> None:
        """Take a system or developer message."""
        if by_system and not (self.turns or self.said or self.calls):
            self.role.append(text)
            return
        self.step = [*self.step, text] if self.fresh else [text]
        self.fresh = True
        self.calls_before_step, self.said_before_step = len(self.calls), len(self.said)

    def hear(self, text: str) -> None:
        """Take a user message."""
        if "{" in text or "\n" in text:
            self.quoted.append(text)
            return
        if self.waiting and self.turns:  # one turn that arrived in several messages
            self.turns[-1].words += f" {text}"
        else:
            self.turns.append(Turn(words=text, asked=self.said[-1] if self.said else ""))
        self.earlier.extend(self.calls.values())
        self.calls, self.calls_before_step = {}, 0
        self.waiting, self.fresh = True, False

    def answer(self, text: str, calls: Sequence[Mapping[str, Any]]) -> None:
        """Take an assistant message."""
        if text:
            self.said.append(text)
        if calls and self.turns:
            self.turns[-1].acted = True
        for call in calls:
            function = call["function"]
            arguments = _json(function.get("arguments") or "{}")
            self.calls[str(call["id"])] = FunctionCall(
                name=str(function["name"]), arguments=arguments if isinstance(arguments, dict) else {}
            )
        self.waiting = self.fresh = False


def read(messages: Sequence[Mapping[str, Any]]) -> Conversation:
    """Read the messages of a request."""
    conversation = Conversation()
    for message in messages:
        text, role = text_of(message), message.get("role")
        if role in ("system", "developer") and _QUOTES in text:
            conversation.quoted.append(text)
        elif role in ("system", "developer") and text:
            conversation.instruct(text, by_system=role == "system")
        elif role == "user" and text:
            conversation.hear(text)
        elif role == "assistant":
            conversation.answer(text, message.get("tool_calls") or ())
        elif role == "tool":
            conversation.fresh = False
            if str(message.get("tool_call_id")) in conversation.calls:
                conversation.calls[str(message.get("tool_call_id"))].result = _json(text)
    return conversation


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message, whose content is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content.strip()
    parts = content if isinstance(content, Sequence) else ()
    return " ".join(str(part.get("text", "")) for part in parts if isinstance(part, Mapping)).strip()


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
