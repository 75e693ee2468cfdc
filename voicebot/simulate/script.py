"""The format of scripts: conversations, and what is expected of each turn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from templates.model_fields import fields_at, suggestion
from templates.problem import pointer
from templates.sets import ParsedText, UnreadableText, read_text
from voicebot.call.text.answers import Answer


class BadFile(ValueError):
    """A file is not valid; each fault says where."""

    def __init__(self, path: Path, faults: Sequence[str]) -> None:
        super().__init__(f"{path}:\n" + "\n".join(f"  {fault}" for fault in faults))
        self.path = path
        self.faults = tuple(faults)


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) or value is None else [value]


Texts = Annotated[list[str], BeforeValidator(_listed)]
"""One text, or several."""


class Part(BaseModel):
    """The base of all parts of a script: unknown members are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Expect(Part):
    """What is expected of a turn; members that are left out are not checked."""

    says: Texts = Field(default_factory=list, description="Words the caller hears; case does not matter.")
    never_says: Texts = Field(default_factory=list, description="Words the caller does not hear.")
    meets: Texts = Field(
        default_factory=list,
        description="What the reply should do, in plain words; a language model judges it.",
        examples=["offers another day, and apologises"],
    )
    functions: list[str | dict[str, dict[str, Any]]] | None = Field(
        default=None,
        description=(
            "Functions that are called, in this order, by name or as name and arguments; others may be "
            "called too. An empty list: no function is called."
        ),
        examples=[["current_time", {"find_order": {"order_number": "4471"}}]],
    )
    route: str | None = Field(default=None, description="The route that is taken; null: no route is taken.")
    agent: str | None = Field(default=None, description="Name of the template that has the call afterwards.")
    node: str | None = Field(default=None, description="The node where the call is afterwards.")
    outcome: str | None = Field(default=None, description="The outcome that is recorded.")
    ended: bool | None = Field(default=None, description="Whether the call has ended afterwards.")

    def has(self, name: str) -> bool:
        """Whether the script contains this member."""
        return name in self.model_fields_set


class Turn(Part):
    """One turn. Only the first may have no ``caller``; it is the agent's opening."""

    caller: str | None = Field(default=None, min_length=1, description="What the caller says.")
    expect: Expect = Field(default_factory=Expect)


class Conversation(Part):
    """One conversation."""

    name: str = Field(description="A name for the report.", examples=["A bill is explained"])
    begin: str | None = Field(default=None, description="Name of the template that takes the call.")
    payload: dict[str, Any] = Field(
        default_factory=dict, description="The lead's payload; added to the file's."
    )
    answers: dict[str, list[Answer]] = Field(
        default_factory=dict,
        description="Answers of HTTP functions, by name; they take precedence over the file's.",
    )
    turns: list[Turn] = Field(min_length=1)


class Script(Part):
    """A file of conversations."""

    templates: Texts = Field(
        default_factory=list,
        description="Template files, relative to this file; by default the account's templates are used.",
    )
    begin: str | None = Field(default=None, description="Name of the template that takes the calls.")
    payload: dict[str, Any] = Field(default_factory=dict)
    answers: dict[str, list[Answer]] = Field(default_factory=dict)
    conversations: list[Conversation] = Field(min_length=1)

    def begins_with(self, conversation: Conversation) -> str:
        """Name of the template that takes a conversation's call; "" if none is given."""
        return conversation.begin or self.begin or ""

    def payload_of(self, conversation: Conversation) -> dict[str, Any]:
        """The payload of a conversation."""
        return {**self.payload, **conversation.payload}

    def answers_of(self, conversation: Conversation) -> dict[str, list[Answer]]:
        """The answers of a conversation, its own first."""
        names = {**self.answers, **conversation.answers}
        return {name: [*conversation.answers.get(name, []), *self.answers.get(name, [])] for name in names}


def load(path: Path) -> Script:
    """Read a script.

    Raises:
        BadFile: it is missing, not YAML, or not a script; it has all faults.
    """
    try:
        script = Script.model_validate(read_yaml(path))
    except ValidationError as error:
        lines = _lines(path)
        raise BadFile(path, [_fault_text(fault, lines) for fault in error.errors()]) from None
    faults = list(_inconsistencies(script))
    if faults:
        raise BadFile(path, faults)
    return script


def read_yaml(path: Path) -> Any:
    """The document in a YAML (or JSON) file.

    Raises:
        BadFile: it is missing, or not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadFile(path, [error.strerror or "cannot be read"]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadFile(path, [" ".join(str(error).split())]) from None


def _lines(path: Path) -> ParsedText:
    """Where the values of a file are; empty if it uses what template files may not use."""
    try:
        return read_text(path.read_bytes())
    except UnreadableText:
        return ParsedText(None)


def _fault_text(fault: ErrorDetails, lines: ParsedText) -> str:
    """A fault with its line, and for an unknown member the one that was possibly meant."""
    place = pointer(*fault["loc"])
    line = lines.line(place)
    where = f"line {line}: {place}" if line is not None else place
    if fault["type"] == "extra_forbidden":
        path = fault["loc"]
        known = fields_at(Script, path[:-1])
        return (
            f"{where}: There is no member '{path[-1]}' here.{suggestion(str(path[-1]), known)} "
            f"Known: {', '.join(sorted(known))}."
        )
    return f"{where}: {fault['msg']}"


def _inconsistencies(script: Script) -> list[str]:
    faults = []
    for index, conversation in enumerate(script.conversations):
        here = pointer("conversations", index)
        if not script.begins_with(conversation):
            faults.append(f"{here}: 'begin' is missing: name the template that takes the call.")
        for number, turn in enumerate(conversation.turns):
            if turn.caller is None and number:
                faults.append(
                    f"{here}/turns/{number}: 'caller' is missing; only the first turn may be without it."
                )
    return faults
