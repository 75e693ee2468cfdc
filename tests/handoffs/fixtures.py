"""A desk to test with: its parts on a real database, people to hire, and a clock moved by hand."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from db import handoff_events, users
from db.handoff_events import HandoffEventRecord
from db.handoffs import HandoffRecord
from db.keys import Role
from db.pool import Database
from db.users import UserDraft
from tests.db.seed import NOON
from voicebot.handoffs.create_request import CreateHandoff
from voicebot.handoffs.handoff_service import HandoffService
from voicebot.handoffs.presence import PresenceService, Setting
from voicebot.handoffs.scheduler import Scheduler


class HandClock:
    """Time that stands still until it is moved."""

    def __init__(self, at: datetime = NOON) -> None:
        self.at = at

    def now(self) -> datetime:
        """The moment it stands at."""
        return self.at

    def monotonic_ms(self) -> float:
        """Milliseconds since the epoch."""
        return self.at.timestamp() * 1000

    def wait(self, **duration: float) -> None:
        """Move on."""
        self.at += timedelta(**duration)


class Staff:
    """One account's desk."""

    def __init__(self, database: Database, account_id: UUID, clock: HandClock) -> None:
        self.database = database
        self.account_id = account_id
        self.clock = clock
        self.desk = HandoffService(database, clock)
        self.presence = PresenceService(database, clock)
        self.scheduler = Scheduler(database, clock, self.desk, self.presence)
        self._names = count(1)

    async def hire(self, role: Role = "operator", **more: Any) -> UUID:
        """Somebody new; not at the desk yet."""
        draft = UserDraft(**{"name": f"person {next(self._names)}", "role": role} | more)
        return (await users.create(self.database, self.account_id, draft)).id

    async def operator(self, *, capacity: int | None = None, **more: Any) -> UUID:
        """Somebody new who is at the desk, idle."""
        user_id = await self.hire(**more)
        await self.presence.set(self.account_id, user_id, Setting(status="idle", capacity=capacity))
        return user_id

    async def escalate(self, call_id: UUID | None = None, **more: Any) -> HandoffRecord:
        """A caller who needs a person."""
        wish = CreateHandoff(
            **{"intent": "escalate", "origin": "model", "reason": "wants a person"} | more, call_id=call_id
        )
        return (await self.desk.create(self.account_id, wish)).handoff

    async def park(self, due_at: datetime, call_id: UUID | None = None, **more: Any) -> HandoffRecord:
        """A caller to be called later."""
        told = {"intent": "park", "origin": "model", "reason": "later", "consent": True} | more
        wish = CreateHandoff(**told, call_id=call_id, due_at=due_at)
        return (await self.desk.create(self.account_id, wish)).handoff

    async def told(self) -> list[HandoffEventRecord]:
        """All events of the account."""
        return list(await handoff_events.after(self.database, self.account_id, 0, limit=10_000))

    async def types(self) -> list[str]:
        """The types of all events of the account."""
        return [event.type for event in await self.told()]
