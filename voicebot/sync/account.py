"""The account that a directory is synchronised with, in a database or behind a server's API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from templates.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTemplate:
    """A template of the account; ``document`` is in the canonical format of files."""

    name: str
    revision: int
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveResult:
    """The result of an import for one template."""

    name: str
    action: str
    revision: int
    problems: int
    """Number of errors that it has as a draft."""


class Refused(Exception):
    """The account refuses the request; ``problems`` have pointers into the set that was sent."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class Unreachable(Exception):
    """The account cannot be reached; try again."""


class Account(Protocol):
    """An account to pull from and push to.

    Every method raises ``Refused`` if the account refuses it, and ``Unreachable`` if it does not answer.
    """

    @property
    def place(self) -> str:
        """Identifies the account in the state file."""
        ...

    async def templates(self) -> Sequence[StoredTemplate]:
        """All templates."""
        ...

    async def save(
        self, documents: Sequence[Any], expect: Mapping[str, int | None], *, dry_run: bool
    ) -> Sequence[SaveResult]:
        """Create and update templates by their names, all or none."""
        ...

    async def delete(self, name: str, revision: int) -> None:
        """Delete a template, if it is at that revision."""
        ...
