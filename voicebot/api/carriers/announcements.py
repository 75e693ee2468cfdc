"""Announcements on the media socket before an agent answers: a refusal, or a menu of agents.

They are for carriers whose webhooks can neither speak a text nor wait for a key. Afterwards the stream is
closed and the carrier's flow asks again: it opens a stream for the chosen agent, or ends the call.
"""

from __future__ import annotations

from uuid import UUID

from loguru import logger

from db import carrier_calls, numbers
from db.errors import DatabaseError, NotFound, UnknownNumber
from db.inbound import InboundCall
from telephony.media import MediaStream
from voicebot.api.app_state import AppState
from voicebot.api.carriers.call_ends import finish
from voicebot.api.carriers.inbound_calls import ATTEMPTS, KEY_TIMEOUT_S, Announcement, Choice, decide
from voicebot.call.audio.announcer import Announcer

TRY_AGAIN_LATER = 1013


async def announce(
    app: AppState, carrier: str, media: MediaStream, account_id: UUID, number_id: UUID
) -> None:
    """Play the announcement for a caller of the number, and close the stream."""
    try:
        number = await numbers.get(app.database, account_id, number_id)
        call_in = InboundCall(
            carrier=carrier,
            carrier_call_id=media.start.carrier_call_id,
            to_number=number.e164,
            from_number=media.start.caller or None,
            started_at=app.clock.now(),
        )
        async with Announcer(media) as announcer:
            await _say(app, announcer, media, call_in)
        if announcer.is_hung_up:
            await _caller_left(app, call_in)
    except (NotFound, UnknownNumber):
        logger.warning("an announcement was not made: the number is gone")
    except DatabaseError as error:
        logger.warning("an announcement was not made: {}", type(error).__name__)
        await media.refuse(TRY_AGAIN_LATER, "try again")
    await media.close()


async def _say(app: AppState, announcer: Announcer, media: MediaStream, call_in: InboundCall) -> None:
    """Play everything. The call is in the database before the stream ends and the flow asks."""
    decision = await decide(app.database, call_in)
    while isinstance(decision, Announcement) and announcer.is_open:
        template, text = decision.template, decision.text
        speech = await app.call_registry.announcement(
            decision.number.account_id, template.id, text, media.sample_rate
        )
        if decision.attempt is None:
            await announcer.say(speech)
            break
        key = await announcer.ask(speech, KEY_TIMEOUT_S) if speech else None
        attempt = decision.attempt if speech else ATTEMPTS
        if announcer.is_open:
            decision = await decide(app.database, call_in, Choice(attempt, key))


async def _caller_left(app: AppState, call_in: InboundCall) -> None:
    """End a call whose caller has hung up in the menu."""
    call = await carrier_calls.by_carrier_id(app.database, call_in.carrier, call_in.carrier_call_id)
    if call.offered_template_ids is not None:
        await finish(app, call, "caller", "hangup")
