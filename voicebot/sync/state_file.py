"""What a folder remembers of an account: each template as it was when both were last the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from voicebot.authoring.files import BadFiles, Fault

NAME = ".voicebot.json"


class SyncedTemplate(BaseModel):
    """One template, when folder and account were last the same."""

    model_config = ConfigDict(frozen=True)

    file: str = Field(pattern=r"^[^/\\]+$")
    revision: int
    digest: str


class SyncState(BaseModel):
    """Everything that is remembered, by account and by the template's name."""

    accounts: dict[str, dict[str, SyncedTemplate]] = Field(default_factory=dict)

    def of(self, place: str) -> dict[str, SyncedTemplate]:
        """What is remembered of one account; to be changed."""
        return self.accounts.setdefault(place, {})


def load(folder: Path) -> SyncState:
    """What a folder remembers; nothing, where it has never been pulled to or pushed from.

    Raises:
        BadFiles: the file is damaged.
    """
    path = folder / NAME
    try:
        return SyncState.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return SyncState()
    except (ValidationError, OSError):
        fault = Fault(
            path=path, line=None, pointer="", message="It cannot be read.",
            remedy="Remove it: then what is here and what the account has are compared anew.",
        )  # fmt: skip
        raise BadFiles([fault]) from None


def keep(folder: Path, records: SyncState) -> None:
    """Remember it."""
    write(folder / NAME, records.model_dump_json(indent=2) + "\n")


def digest(document: Mapping[str, Any]) -> str:
    """What tells one canonical document from another, whatever the order of names in it."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def write(path: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
