"""What somebody wishes for a caller: a person now, or a call later."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from db.handoffs import Intent, Origin, Priority
from db.ids import new_id


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateHandoff:
    """A handoff to make. Its id is made with it, so that making it twice makes it once."""

    intent: Intent
    origin: Origin
    reason: str
    id: UUID = field(default_factory=new_id)
    call_id: UUID | None = None
    lead_id: UUID | None = None
    """None: the call's."""
    notes: str = ""
    priority: Priority = "normal"
    language: str | None = None
    """BCP 47; None: that of the agent who has the call."""
    team: str | None = None
    due_at: datetime | None = None
    """Of a park; None: as soon as it can be."""
    time_zone: str | None = None
    """IANA name; None: that of the number that was called."""
    consent: bool = False
    """Whether the caller agreed to be called."""
    created_by: UUID | None = None
    """The user who asks; None: an agent."""
    continues_id: UUID | None = None
    """The escalation that a park continues."""
