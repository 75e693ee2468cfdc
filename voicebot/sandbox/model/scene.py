"""What the messages of a request say about the moment: who spoke last, what was asked, what was done."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A tool that was called, with its arguments and (once it is there) its result."""

    name: str
    arguments: Mapping[str, Any]
    result: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What the caller said, what the assistant had said just before, and whether a tool was called on it."""

    words: str
    asked: str = ""
    acted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The conversation, read.

    Attributes:
        role: texts of the system before anything was said.
        step: the latest texts of developers (or of the system, later on): what is to be done now.
        fresh: nothing has been said or done since `step`.
        material: user messages that nobody spoke, such as quoted summaries.
        turns: what the caller said, in order.
        said: what the assistant said, in order.
        waiting: the caller's last words have had no answer yet, neither words nor a tool.
        done: tools called since the caller's last words, in order.
        before_step: how many of these were called before `step` came.
        said_before_step: how much of `said` was said before `step` came.
        past: tools called before that.
    """

    role: tuple[str, ...] = ()
    step: tuple[str, ...] = ()
    fresh: bool = False
    material: tuple[str, ...] = ()
    turns: tuple[Turn, ...] = ()
    said: tuple[str, ...] = ()
    waiting: bool = False
    done: tuple[Done, ...] = ()
    before_step: int = 0
    said_before_step: int = 0
    past: tuple[Done, ...] = ()

    @property
    def words(self) -> str:
        """The caller's last words; empty before they spoke."""
        return self.turns[-1].words if self.turns else ""

    @property
    def asked(self) -> str:
        """What the assistant said just before the caller's last words."""
        return self.turns[-1].asked if self.turns else ""


@dataclass(slots=True)
class _Reader:
    """Collects a scene, message by message."""

    role: list[str] = field(default_factory=list)
    step: list[str] = field(default_factory=list)
    begun: bool = False
    fresh: bool = False
    material: list[str] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    waiting: bool = False
    calls: dict[str, Done] = field(default_factory=dict)
    before_step: int = 0
    said_before_step: int = 0
    past: list[Done] = field(default_factory=list)

    def instructed(self, text: str, *, by_system: bool) -> None:
        """Take a system or developer message."""
        if by_system and not self.begun:
            self.role.append(text)
            return
        self.step = [*self.step, text] if self.fresh else [text]
        self.fresh = True
        self.before_step, self.said_before_step = len(self.calls), len(self.said)

    def spoken_to(self, text: str) -> None:
        """Take a user message: words of the caller, or material."""
        if not _is_speech(text):
            self.material.append(text)
            return
        if self.waiting and self.turns:  # one turn that arrived in pieces
            self.turns[-1] = replace(self.turns[-1], words=f"{self.turns[-1].words} {text}")
        else:
            self.turns.append(Turn(words=text, asked=self.said[-1] if self.said else ""))
        self.past.extend(self.calls.values())
        self.calls.clear()
        self.before_step = 0
        self.begun, self.fresh = True, False
        self.waiting = True

    def answered(self, text: str, calls: Sequence[Mapping[str, Any]]) -> None:
        """Take an assistant message."""
        if text:
            self.said.append(text)
        if calls and self.turns:
            self.turns[-1] = replace(self.turns[-1], acted=True)
        for call in calls:
            function = call["function"]
            self.calls[str(call["id"])] = Done(
                name=str(function["name"]), arguments=_json_object(function.get("arguments") or "{}")
            )
        self.waiting = False
        self.begun, self.fresh = True, False

    def returned(self, call_id: str, content: str) -> None:
        """Take a tool's result."""
        call = self.calls.get(call_id)
        if call is not None:
            self.calls[call_id] = Done(name=call.name, arguments=call.arguments, result=_json(content))
        self.fresh = False


def read(messages: Sequence[Mapping[str, Any]]) -> Scene:
    """Read the messages of a request."""
    reader = _Reader()
    for message in messages:
        text = text_of(message)
        match message.get("role"):
            case "system" | "developer" if text:
                reader.instructed(text, by_system=message["role"] == "system")
            case "user" if text:
                reader.spoken_to(text)
            case "assistant":
                reader.answered(text, message.get("tool_calls") or ())
            case "tool":
                reader.returned(str(message.get("tool_call_id")), text)
    return Scene(
        role=tuple(reader.role),
        step=tuple(reader.step),
        fresh=reader.fresh,
        material=tuple(reader.material),
        turns=tuple(reader.turns),
        said=tuple(reader.said),
        waiting=reader.waiting,
        done=tuple(reader.calls.values()),
        before_step=reader.before_step,
        said_before_step=reader.said_before_step,
        past=tuple(reader.past),
    )


def text_of(message: Mapping[str, Any]) -> str:
    """Return a message's text: its content is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content.strip()
    parts = content if isinstance(content, Sequence) else ()
    texts = (part.get("text", "") for part in parts if isinstance(part, Mapping))
    return " ".join(text for text in texts if isinstance(text, str)).strip()


def _is_speech(text: str) -> bool:
    """Nobody speaks braces or lines: such a user message is material put there by a program."""
    return "{" not in text and "\n" not in text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _json_object(text: str) -> Mapping[str, Any]:
    value = _json(text)
    return value if isinstance(value, dict) else {}
