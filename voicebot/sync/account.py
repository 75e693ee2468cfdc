"""An account as a folder sees it, be it in a database or behind a server's API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from templates.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTemplate:
    """A template as the account holds it; ``document`` is as a file has it, canonical."""

    name: str
    revision: int
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveResult:
    """What an import did to a template."""

    name: str
    action: str
    revision: int
    problems: int
    """How many errors it still has, as a draft."""


class Refused(Exception):
    """The account does not take it as it is; ``problems`` have pointers into the set that was sent."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class Unreachable(Exception):
    """The account cannot be asked; nothing is known of what it would have said."""


class Account(Protocol):
    """Whom templates are pulled from and pushed to.

    Every method raises ``Refused`` where the account says no, and ``Unreachable`` where it says nothing.
    """

    @property
    def place(self) -> str:
        """Which account it is: what is remembered of one says nothing about another."""
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
        """Take a template out of use, if it is at that revision."""
        ...
