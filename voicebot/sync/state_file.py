"""The state file of a directory: each template as of the last time when directory and account were equal."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from voicebot.authoring.files import BadFiles, Fault

NAME = ".voicebot.json"


class SyncedTemplate(BaseModel):
    """One template as of the last time when directory and account were equal."""

    model_config = ConfigDict(frozen=True)

    file: str = Field(pattern=r"^[^/\\]+$")
    revision: int
    digest: str


class SyncState(BaseModel):
    """The synchronised templates by account and name."""

    accounts: dict[str, dict[str, SyncedTemplate]] = Field(default_factory=dict)

    def of(self, place: str) -> dict[str, SyncedTemplate]:
        """The synchronised templates of one account; the caller may change them."""
        return self.accounts.setdefault(place, {})


def load(directory: Path) -> SyncState:
    """The state of a directory; empty before the first pull or push.

    Raises:
        BadFiles: the file is damaged.
    """
    path = directory / NAME
    try:
        return SyncState.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return SyncState()
    except (ValidationError, OSError):
        fault = Fault(
            path=path, line=None, pointer="", message="It cannot be read.",
            remedy="Delete it: directory and account are then compared again.",
        )  # fmt: skip
        raise BadFiles([fault]) from None


def store(directory: Path, state: SyncState) -> None:
    """Write the state file."""
    write(directory / NAME, state.model_dump_json(indent=2) + "\n")


def digest(document: Mapping[str, Any]) -> str:
    """A digest of a canonical document, independent of the order of its members."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def write(path: Path, text: str) -> None:
    """Write a file atomically; links in its place are replaced and never followed.

    Raises:
        FileExistsError: another process makes the same file at the same time.
    """
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with open(temporary, "x", encoding="utf-8", opener=_not_through_links) as file:
        file.write(text)
    temporary.replace(path)


def _not_through_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)
