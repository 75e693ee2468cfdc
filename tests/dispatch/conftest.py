"""A dispatcher on a new database with a scripted carrier and a clock that is advanced by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import pytest
from cryptography.fernet import Fernet

from db import accounts, call_leases, calls, leads, numbers, templates
from db.calls import CallEnd, CallRecord
from db.leads import LeadDraft, LeadRecord
from db.numbers import NumberDraft
from db.pool import Database
from db.templates import TemplateDraft
from handlers.http import CheckedNetwork, HttpClient
from tests.dispatch.scripted_carrier import ScriptedCarrier
from tests.handoffs.fixtures import ManualClock
from voicebot.dispatch.breaker import Breakers
from voicebot.dispatch.dispatcher import DialUrls, Dispatcher
from voicebot.dispatch.finaliser import Finaliser
from voicebot.dispatch.precheck import Prechecks
from voicebot.vault import Vault

ALWAYS = {"window": {"from": "00:00", "to": "24:00"}, "rate_limit": None}
PERSON = "+14155550199"
CREDENTIALS = {"twilio": "TWILIO_AUTH_TOKEN:test"}
VAULT_KEY = Fernet.generate_key()


@cache
def no_client() -> HttpClient:
    """A client that no test uses; making one reads all root certificates."""
    return HttpClient(CheckedNetwork())


async def _nothing(_: CallRecord) -> None:
    await asyncio.sleep(0)


@dataclass
class DispatchEnvironment:
    """One account's number and template, and a dispatcher."""

    database: Database
    clock: ManualClock
    carrier: ScriptedCarrier
    account_id: UUID
    number_id: UUID
    dispatcher: Dispatcher
    finaliser: Finaliser
    outbound: dict[UUID, Mapping[str, Any]] = field(default_factory=dict)

    async def template(self, **outbound: Any) -> UUID:
        """An active template with settings for dialling."""
        name = f"Reminder {len(self.outbound)}"
        settings = {**ALWAYS, **outbound}
        content = {"name": name, "prompt": "You remind.", "outbound": settings}
        made = await templates.create(
            self.database,
            self.account_id,
            TemplateDraft(name=name, kind="agent", status="active", number_id=None, content=content),
        )
        self.outbound[made.id] = settings
        return made.id

    async def lead(self, template_id: UUID, phone: str = PERSON, **more: Any) -> LeadRecord:
        """A lead that is due now."""
        values = {"payload": {}, "variables": {}, "earliest_at": self.clock.now(), **more}
        draft = LeadDraft(
            direction="outbound", phone=phone, number_id=self.number_id, template_id=template_id, **values
        )
        return (await leads.create(self.database, self.account_id, draft)).lead

    async def again(self, lead: LeadRecord) -> LeadRecord:
        """The lead as it is now."""
        return await leads.get(self.database, self.account_id, lead.id)

    async def step(self, dispatcher: Dispatcher | None = None) -> float:
        """Finalise what has ended and dial what is due, and wait until that is done."""
        dispatcher = dispatcher or self.dispatcher
        await self.finalise()
        pause_s = await dispatcher.run_once()
        await dispatcher.finish(30)
        return pause_s

    async def finalise(self) -> None:
        """Finalise the calls that have ended, and wait until that is done."""
        await self.finaliser.run_once()
        await self.finaliser.finish(30)

    async def calls_of(self, lead: LeadRecord) -> list[CallRecord]:
        """The attempts of a lead, oldest first."""
        ids = (await self.again(lead)).call_ids
        return [await calls.get(self.database, self.account_id, call_id) for call_id in ids]

    async def loses_process(self) -> None:
        """The leases of all calls expire: no process has them any more."""
        await self.database.execute("UPDATE calls SET held_until = now() - interval '1 second'")
        await call_leases.end_expired(self.database, limit=100)

    async def ends(self, call: CallRecord, reason: str, *, answered: bool = False, **more: Any) -> None:
        """A call ends."""
        if answered:
            await calls.answered(self.database, self.account_id, call.id, self.clock.now())
        values = {"ended_by": "carrier", "end_reason": reason, "outcome": None, **more}
        end = CallEnd(ended_at=self.clock.now(), **values)
        await calls.finish(self.database, self.account_id, call.id, end)

    def other(self) -> Dispatcher:
        """The dispatcher of another process."""
        return make_dispatcher(self.database, self.clock, self.carrier)


def make_dispatcher(
    database: Database,
    clock: ManualClock,
    carrier: ScriptedCarrier,
    breakers: Breakers | None = None,
    client: HttpClient | None = None,
    prepare: Callable[[CallRecord], Awaitable[None]] = _nothing,
    is_draining: Callable[[], bool] = lambda: False,
) -> Dispatcher:
    """A dispatcher of a process."""
    urls = DialUrls(origin="https://bot.example.com", token=lambda call: f"token-{call.id}")
    carriers = {"twilio": carrier.as_carrier()}
    prechecks = Prechecks(database, clock, Vault(VAULT_KEY), client or no_client())
    breakers = breakers or Breakers(database, clock, CREDENTIALS)
    return Dispatcher(database, clock, carriers, breakers, urls, prepare, prechecks, is_draining)


async def make_environment(database: Database, e164: str = "+14155550100") -> DispatchEnvironment:
    """An account with one number of two channels."""
    account = await accounts.create(database, "Acme")
    number = await numbers.create(database, account.id, NumberDraft(e164=e164, carrier="twilio"))
    await database.execute("UPDATE numbers SET channels = 2 WHERE id = $1", number.id)
    row = await database.fetchrow("SELECT now() AS now")
    assert row is not None
    at: datetime = row["now"]
    clock, carrier = ManualClock(at), ScriptedCarrier()
    breakers = Breakers(database, clock, CREDENTIALS)
    return DispatchEnvironment(
        database=database, clock=clock, carrier=carrier, account_id=account.id, number_id=number.id,
        dispatcher=make_dispatcher(database, clock, carrier, breakers),
        finaliser=Finaliser(database, clock, {"twilio": carrier.as_carrier()}, breakers),
    )  # fmt: skip


@pytest.fixture
async def dispatch_environment(database: Database) -> DispatchEnvironment:
    """An account with one number of two channels."""
    return await make_environment(database)
