"""The handoff components on a real database, users to create, and a clock that is advanced by hand."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from db import handoff_events, users
from db.handoff_events import HandoffEventRecord
from db.handoffs import HandoffDraft, HandoffRecord
from db.keys import Role
from db.pool import Database, Transaction
from db.users import UserDraft
from tests.db.seed import NOON
from voicebot.handoffs.handoff_service import HandoffService
from voicebot.handoffs.presence import PresenceChange, PresenceService
from voicebot.handoffs.scheduler import Scheduler


class ManualClock:
    """A clock that stands still until it is advanced."""

    def __init__(self, at: datetime = NOON) -> None:
        self.at = at

    def now(self) -> datetime:
        """The present moment."""
        return self.at

    def monotonic_ms(self) -> float:
        """Milliseconds since the epoch."""
        return self.at.timestamp() * 1000

    def advance(self, **duration: float) -> None:
        """Advance by the arguments of ``timedelta``."""
        self.at += timedelta(**duration)


class DatabaseWithInterruption:
    """A database on which another operation runs just before the first transaction."""

    def __init__(self, database: Database, happens: Callable[[], Awaitable[object]]) -> None:
        self._database = database
        self._happens: Callable[[], Awaitable[object]] | None = happens
        self.fetchrow, self.fetch, self.execute = database.fetchrow, database.fetch, database.execute

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        happens, self._happens = self._happens, None
        if happens is not None:
            await happens()
        async with self._database.transaction() as transaction:
            yield transaction


class HandoffEnvironment:
    """The components and users of one account."""

    def __init__(self, database: Database, account_id: UUID, clock: ManualClock) -> None:
        self.database = database
        self.account_id = account_id
        self.clock = clock
        self.service = HandoffService(database, clock)
        self.presence = PresenceService(database, clock)
        self.scheduler = Scheduler(database, clock, self.service, self.presence)
        self._names = count(1)

    async def user(self, role: Role = "operator", **more: Any) -> UUID:
        """Create a user, who is offline."""
        draft = UserDraft(**{"name": f"user {next(self._names)}", "role": role} | more)
        return (await users.create(self.database, self.account_id, draft)).id

    async def operator(self, *, capacity: int | None = None, **more: Any) -> UUID:
        """Create a user who is online and idle."""
        user_id = await self.user(**more)
        await self.presence.set(self.account_id, user_id, PresenceChange(status="idle", capacity=capacity))
        return user_id

    async def escalate(self, call_id: UUID | None = None, **more: Any) -> HandoffRecord:
        """Create an escalation."""
        values: dict[str, Any] = {"intent": "escalate", "origin": "model", "reason": "wants a person"} | more
        draft = HandoffDraft(**values, call_id=call_id, created_at=self.clock.now())
        return (await self.service.create(self.account_id, draft)).handoff

    async def park(self, due_at: datetime, call_id: UUID | None = None, **more: Any) -> HandoffRecord:
        """Create a parked call."""
        values: dict[str, Any] = {
            "intent": "park",
            "origin": "model",
            "reason": "later",
            "consent": True,
        } | more
        draft = HandoffDraft(**values, call_id=call_id, due_at=due_at, created_at=self.clock.now())
        return (await self.service.create(self.account_id, draft)).handoff

    async def events(self) -> list[HandoffEventRecord]:
        """All events of the account."""
        return list(await handoff_events.after(self.database, self.account_id, 0, limit=10_000))

    async def event_types(self) -> list[str]:
        """The types of all events of the account."""
        return [event.type for event in await self.events()]
