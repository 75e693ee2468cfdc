"""Ends calls that a flow connected with a person and that have ended at the carrier.

A caller who hangs up during such a connection ends the flow: it sends no further request, and the carrier
sends no status of inbound calls. Therefore the carrier is asked.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from loguru import logger

from db import bridged_calls
from db.calls import CallRecord
from db.errors import DatabaseError
from telephony.errors import CarrierError
from telephony.flow import FlowCarrier
from voicebot.api.app_state import AppState
from voicebot.api.carriers.call_ends import end_with_person

EVERY_S = 10.0
LONGEST = timedelta(hours=5)
"""The age at which a call counts as ended if the carrier does not know it; no call lasts this long."""

_BATCH = 100


async def run(app: AppState) -> None:
    """Ask about the calls of all processes until cancelled."""
    while True:
        await asyncio.sleep(EVERY_S)
        try:
            await sweep(app)
        except DatabaseError as error:
            logger.warning("transferred calls could not be read: {}", type(error).__name__)


async def sweep(app: AppState) -> None:
    """Ask about each call once."""
    for call in await bridged_calls.transferring_by_flow(app.database, list(app.flow_carriers), _BATCH):
        await _check(app, app.flow_carriers[call.carrier], call)


async def _check(app: AppState, flow: FlowCarrier, call: CallRecord) -> None:
    sid = call.carrier_call_id or ""
    try:
        if await flow.is_live(sid):
            return
    except CarrierError as error:
        logger.warning("call {}: it is not known whether it has ended: {}", call.id, error)
        if app.clock.now() - call.started_at < LONGEST:
            return
    await end_with_person(app, call, "caller", "hangup")
