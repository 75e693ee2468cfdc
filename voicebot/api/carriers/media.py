"""The media sockets of carriers: a token opens the stream of one call, once; then the call is answered."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, WebSocket
from loguru import logger
from starlette.websockets import WebSocketState

from db import attempts, calls
from db.call_tokens import CallCancelled
from db.calls import CallRecord
from db.errors import DatabaseError, DatabaseUnavailable, TokenRefused
from telephony.carrier import Carrier
from telephony.errors import BadSignature, MediaGone, MediaRefused, TooManyFields
from telephony.media import MediaStream
from telephony.webhook import WebhookRequest
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.carriers import announcements
from voicebot.api.carriers.call_ends import finish

router = APIRouter(prefix="/media")

# RFC 6455 section 7.4.1 and the IANA registry of close codes.
POLICY = 1008
INTERNAL_ERROR = 1011
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013

_END_CHECK_PAUSES_S = (0.5, 2.0, 12.0)


@router.websocket("/{name}")
@router.websocket("/{name}/{token}")
async def media_socket(websocket: WebSocket, app: AppStateDep, name: str) -> None:
    """Serve the media socket of one call until it ends."""
    carrier = app.carriers.get(name)
    if carrier is None:
        await websocket.close(POLICY)
        return
    if app.draining and not app.call_registry.takes_answers:
        # Accepted first: when the server closes a stream, Twilio goes on to the next verb, the redirect to
        # /resume, and the process that answers it continues the call.
        await websocket.accept()
        await websocket.close(SERVICE_RESTART)
        return
    media = await _accept(app, carrier, websocket)
    if media is None:
        return
    try:
        announced = app.media_tokens.announcement(media.start.token, app.clock.now())
    except TokenRefused as error:
        _refused(app, carrier, str(error))
        await media.refuse(POLICY, "the token was used before")
        return
    if announced is not None:
        await announcements.announce(app, name, media, *announced)
        return
    call = await _admit(app, carrier, media)
    if call is not None and app.draining and call.direction == "inbound":
        await media.refuse(SERVICE_RESTART, "the server is stopping")
    elif call is not None:
        await _run(app, media, call)


async def _accept(app: AppState, carrier: Carrier, websocket: WebSocket) -> MediaStream | None:
    """Verify the handshake, and wait for the start of the stream; None: the socket was closed."""
    handshake = WebhookRequest.received(
        method="GET", url=str(websocket.url), headers=websocket.headers, body=b""
    )
    try:
        carrier.verify_media(handshake)
        async with app.handshakes.waiting():
            return await carrier.accept_media(websocket)
    except (BadSignature, TooManyFields) as error:
        _refused(app, carrier, str(error))
        await websocket.close(POLICY)
    except TimeoutError:
        _refused(app, carrier, "there are too many sockets without a call")
        if websocket.application_state is not WebSocketState.DISCONNECTED:
            await websocket.close(TRY_AGAIN_LATER)
    except MediaRefused as error:
        _refused(app, carrier, str(error))
    except MediaGone:
        logger.debug("a media socket of {} ended before its call", carrier.name)
    return None


async def _admit(app: AppState, carrier: Carrier, media: MediaStream) -> CallRecord | None:
    def close_replayed() -> None:
        closing = media.refuse(POLICY, "the token was used before")
        app.background.start(closing, name="closing a replayed stream")

    try:
        return await app.media_tokens.admit(
            media.start.token,
            media.start.carrier_call_id,
            app.clock.now(),
            known=app.call_registry.known,
            on_replay=close_replayed,
        )
    except CallCancelled as cancelled:
        await finish(app, cancelled.call, "system", attempts.CANCELLED)
        await media.refuse(POLICY, "the call was cancelled")
    except TokenRefused as error:
        _refused(app, carrier, str(error))
        await media.refuse(POLICY, "the token does not open this call")
    except DatabaseError as error:
        _refused(app, carrier, type(error).__name__)
        await media.refuse(TRY_AGAIN_LATER, "try again")
    return None


async def _run(app: AppState, media: MediaStream, call: CallRecord) -> None:
    with logger.contextualize(call_id=str(call.id)):
        try:
            await app.call_registry.answer(media, call)
        except DatabaseUnavailable as error:
            # The carrier requests /resume, and the call begins when the database is back.
            logger.warning("the call cannot begin yet: {}", error)
            await media.refuse(TRY_AGAIN_LATER, "try again")
        except Exception as error:  # noqa: BLE001 - the top of a call
            # The top of a call: its exception must not affect another call.
            logger.exception("the call failed: {}", type(error).__name__)
            await media.refuse(INTERNAL_ERROR, "internal error")
        finally:
            app.background.start(_count_end(app, call), name=f"counting call {call.id}", droppable=True)


async def _count_end(app: AppState, call: CallRecord) -> None:
    """Count the end of the call once it is written; it is not if the call is resumed elsewhere."""
    for pause_s in _END_CHECK_PAUSES_S:
        await asyncio.sleep(pause_s)
        now = await calls.get(app.database, call.account_id, call.id)
        if now.status == "ended":
            app.metrics.count_end(now.ended_by, now.end_reason)
            return


def _refused(app: AppState, carrier: Carrier, reason: str) -> None:
    app.metrics.media_refused.labels(carrier.name).inc()
    logger.warning("refused a media socket of {}: {}", carrier.name, reason)
