"""Who changes something."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Editor:
    """Who changes something: an API key of an account, or (None) the command line."""

    account_id: UUID
    key_id: UUID | None
