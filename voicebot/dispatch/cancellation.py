"""Cancels leads and reports each of them once (``lead.finished``), in the transaction that cancels it.

A lead that is cancelled during its call is reported when that call is finalised
(``voicebot.dispatch.finaliser``), so that the report has the call and its output.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import get_args
from uuid import UUID

from db import lead_control, outbox
from db.lead_control import CancelledLead, OpenStatus
from db.pool import Database, Executor
from voicebot.dispatch import reports, rules

BATCH = 500
"""How many leads one transaction cancels."""

PAUSE_S = 0.05
"""The pause before those leads that other transactions were changing are cancelled."""

_FIRST = UUID(int=0)


async def cancel(db: Executor, account_id: UUID, lead_id: UUID, at: datetime) -> CancelledLead | None:
    """Cancel a lead in a transaction of the caller; None if it is over."""
    lead = await lead_control.cancel(db, account_id, lead_id, at)
    if lead is not None:
        await _report(db, account_id, [lead], at)
    return lead


async def cancel_all(
    database: Database, account_id: UUID, template_id: UUID | None, at: datetime
) -> AsyncIterator[Sequence[CancelledLead]]:
    """Cancel the leads of a template (None: of the account) that exist now; yields each cancelled batch.

    After an error the batches that were yielded are cancelled, and a repetition cancels the others.
    """
    until = await lead_control.newest(database, account_id)
    while until is not None and await lead_control.is_any_open(database, account_id, template_id, until):
        for status in get_args(OpenStatus):
            after = _FIRST
            while True:
                async with database.transaction() as transaction:
                    batch = await lead_control.cancel_some(
                        transaction, account_id, template_id, status, at, ids=(after, until), limit=BATCH
                    )
                    if not batch:
                        break
                    await _report(transaction, account_id, batch, at)
                yield batch
                after = batch[-1].id
        await asyncio.sleep(PAUSE_S)


async def _report(db: Executor, account_id: UUID, leads: Sequence[CancelledLead], at: datetime) -> None:
    """Write ``lead.finished`` of the leads that have no call now."""
    drafts = [
        draft
        for lead in leads
        if lead.before in ("queued", "held")
        for draft in reports.notice(
            rules.outbound_of(lead.outbound), lead.template_id, "lead.finished",
            reports.lead_finished_uncalled(lead, reports.CANCELLED), at,
        )
    ]  # fmt: skip
    await outbox.put(db, account_id, drafts)
