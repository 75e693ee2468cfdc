"""Scripted conversations as an author writes them down, and what they expect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from templates.problem import pointer
from voicebot.call.text.answers import Answer


class BadFile(ValueError):
    """A file cannot be read as what it should be; each fault says where it is."""

    def __init__(self, path: Path, faults: Sequence[str]) -> None:
        super().__init__(f"{path}:\n" + "\n".join(f"  {fault}" for fault in faults))
        self.path = path
        self.faults = tuple(faults)


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) or value is None else [value]


Texts = Annotated[list[str], BeforeValidator(_listed)]
"""One text, or several."""


class Part(BaseModel):
    """What every part of a script has in common: no unknown members."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Expect(Part):
    """What is to happen in a turn; what is left out may be anything."""

    says: Texts = Field(default_factory=list, description="Words the caller hears, in any case.")
    never_says: Texts = Field(default_factory=list, description="Words the caller does not hear.")
    meets: Texts = Field(
        default_factory=list,
        description="What the reply should do, in plain words; the language model judges.",
        examples=["offers another day, and apologises"],
    )
    functions: list[str | dict[str, dict[str, Any]]] | None = Field(
        default=None,
        description=(
            "Functions that are called, in this order, by name or as name and arguments; others may be "
            "called as well. An empty list: none."
        ),
        examples=[["current_time", {"find_order": {"order_number": "4471"}}]],
    )
    route: str | None = Field(default=None, description="The route that is taken; null: none is.")
    agent: str | None = Field(default=None, description="Name of the template that has the call afterwards.")
    node: str | None = Field(default=None, description="The node where the call is afterwards.")
    outcome: str | None = Field(default=None, description="The outcome that is recorded.")
    ended: bool | None = Field(default=None, description="Whether the call is over afterwards.")

    def asks(self, name: str) -> bool:
        """Whether the author wrote this member down."""
        return name in self.model_fields_set


class Turn(Part):
    """One turn; only the first may have no ``caller``: it is about the agent's opening."""

    caller: str | None = Field(default=None, min_length=1, description="What the caller says.")
    expect: Expect = Field(default_factory=Expect)


class Conversation(Part):
    """One conversation."""

    name: str = Field(description="What it shows.", examples=["A bill is explained"])
    begin: str | None = Field(default=None, description="Name of the template that takes the call.")
    payload: dict[str, Any] = Field(
        default_factory=dict, description="The lead's payload; added to the file's."
    )
    answers: dict[str, list[Answer]] = Field(
        default_factory=dict, description="Answers of HTTP functions, by name; they go before the file's."
    )
    turns: list[Turn] = Field(min_length=1)


class Script(Part):
    """A file of conversations."""

    templates: Texts = Field(
        default_factory=list,
        description="Files with the templates, seen from this one; left out: those of the account.",
    )
    begin: str | None = Field(default=None, description="Name of the template that takes the calls.")
    payload: dict[str, Any] = Field(default_factory=dict)
    answers: dict[str, list[Answer]] = Field(default_factory=dict)
    conversations: list[Conversation] = Field(min_length=1)

    def begins_with(self, conversation: Conversation) -> str:
        """Name of the template that takes a conversation's call; "" where neither says so."""
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
        BadFile: it is missing, is not YAML, or not a script; all faults at once.
    """
    try:
        script = Script.model_validate(read_yaml(path))
    except ValidationError as error:
        raise BadFile(
            path, [f"{pointer(*fault['loc'])}: {fault['msg']}" for fault in error.errors()]
        ) from None
    faults = list(_odd(script))
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


def _odd(script: Script) -> list[str]:
    faults = []
    for index, conversation in enumerate(script.conversations):
        here = pointer("conversations", index)
        if not script.begins_with(conversation):
            faults.append(f"{here}: 'begin' is missing: which template takes the call?")
        for number, turn in enumerate(conversation.turns):
            if turn.caller is None and number:
                faults.append(f"{here}/turns/{number}: 'caller' is missing; only the opening has none.")
    return faults
