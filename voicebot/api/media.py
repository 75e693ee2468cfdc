"""The media sockets: a token opens one call's stream once, and the reception takes over."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, WebSocket
from loguru import logger

from db import call_tokens, calls
from db.calls import CallRecord
from db.calls import Carrier as CarrierName
from db.errors import DatabaseError, TokenRefused
from telephony.carrier import Carrier, MediaGone, MediaRefused, MediaStream
from voicebot.api.app_state import AppState, AppStateDep

router = APIRouter(prefix="/media")

# RFC 6455 section 7.4.1 and the IANA registry of close codes.
POLICY = 1008
INTERNAL_ERROR = 1011
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013

_LOOKS_FOR_THE_END_S = (0.5, 2.0, 12.0)


@router.websocket("/{name}")
async def media_socket(websocket: WebSocket, wired: AppStateDep, name: CarrierName) -> None:
    """One call's audio, from the carrier's connection to the call's end."""
    carrier = wired.carriers.get(name)
    if carrier is None:
        await websocket.close(POLICY)
        return
    if wired.draining:
        # Accepted first: a stream that its server closes leads Twilio to the next verb, the redirect to
        # /resume, and whoever is there by then goes on with the call.
        await websocket.accept()
        await websocket.close(SERVICE_RESTART)
        return
    try:
        media = await carrier.accept_media(websocket)
    except MediaRefused as error:
        _refused(wired, carrier, str(error))
        return
    except MediaGone:
        return
    call = await _admit(wired, carrier, media)
    if call is not None:
        await _run(wired, media, call)


async def _admit(wired: AppState, carrier: Carrier, media: MediaStream) -> CallRecord | None:
    try:
        return await call_tokens.consume(wired.database, media.start.token, media.start.carrier_call_id)
    except TokenRefused as error:
        _refused(wired, carrier, str(error))
        await media.refuse(POLICY, "the token does not open this call")
    except DatabaseError as error:
        _refused(wired, carrier, type(error).__name__)
        await media.refuse(TRY_AGAIN_LATER, "try again")
    return None


async def _run(wired: AppState, media: MediaStream, call: CallRecord) -> None:
    with logger.contextualize(call_id=str(call.id)):
        try:
            await wired.call_registry.answer(media, call)
        except Exception as error:
            # The edge of a call: nothing it raises may harm another one.
            logger.exception("the call broke down: {}", type(error).__name__)
            await media.refuse(INTERNAL_ERROR, "internal error")
        finally:
            wired.background.start(_count_end(wired, call), name=f"counting call {call.id}", droppable=True)


async def _count_end(wired: AppState, call: CallRecord) -> None:
    """Count how the call ended, which is written shortly after (or not, when it is resumed elsewhere)."""
    for pause in _LOOKS_FOR_THE_END_S:
        await asyncio.sleep(pause)
        known = await calls.get(wired.database, call.account_id, call.id)
        if known.status == "ended":
            wired.metrics.count_end(known.ended_by, known.end_reason)
            return


def _refused(wired: AppState, carrier: Carrier, why: str) -> None:
    wired.metrics.media_refused.labels(carrier.name).inc()
    logger.warning("a media socket of {} was refused: {}", carrier.name, why)
