"""Tokens of media sockets: each names the call that the socket opens, and can be used once.

The signature is verified here; the database marks the token as used. A call that this process has prepared
does not wait for a slow database: it begins once the signature is verified.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from loguru import logger

from db import attempts, call_tokens
from db.call_tokens import TokenUse, token_hash
from db.calls import CallRecord
from db.errors import DatabaseError, DatabaseUnavailable, TokenRefused
from db.ids import new_id
from db.pool import Database
from voicebot.api import signed_token
from voicebot.api.signed_token import ANNOUNCEMENT, DIALLED_STREAM, MEDIA_STREAM, SignedTokens
from voicebot.background import BackgroundTasks
from voicebot.dispatch.dispatcher import RINGING

KNOWN_CALL_WAIT_S = 0.25
"""How long a call that was prepared here waits for the database before its first words."""

OTHER_CALL_WAIT_S = 1.5
RETRY_PAUSE_S = 0.5


class MediaTokens:
    """Issues the tokens of media streams, and accepts each of them once."""

    def __init__(self, database: Database, keys: Sequence[bytes], tasks: BackgroundTasks) -> None:
        """``keys`` sign the tokens; ``tasks`` mark tokens as used if the call does not wait for that."""
        self._database = database
        self._tokens = SignedTokens(MEDIA_STREAM, *keys)
        self._dialled = SignedTokens(DIALLED_STREAM, *keys)
        self._announcements = SignedTokens(ANNOUNCEMENT, *keys)
        self._tasks = tasks
        self._used: dict[bytes, datetime] = {}

    def issue(self, call: CallRecord, now: datetime) -> str:
        """Issue a token that opens the media stream of ``call`` once."""
        return self._tokens.issue(call.account_id, call.id, now)

    def issue_dialled(self, call: CallRecord, now: datetime) -> str:
        """The same for a call that will be dialled and has no carrier id yet."""
        return self._dialled.issue(call.account_id, call.id, now)

    def issue_announcement(self, account_id: UUID, number_id: UUID, now: datetime) -> str:
        """Issue a token for a stream that plays an announcement to a caller of the number."""
        return self._announcements.issue(account_id, number_id, now)

    def announcement(self, token: str, now: datetime) -> tuple[UUID, UUID] | None:
        """The account and the number of an announcement's token; None: it is a token of another kind.

        Raises:
            TokenRefused: it has opened a stream in this process before.
        """
        try:
            found = self._announcements.read(token, now)
        except signed_token.TokenRefused:
            return None
        self._use_here(token, now)
        return found

    async def admit(
        self,
        token: str,
        carrier_call_id: str,
        now: datetime,
        *,
        known: Callable[[UUID], CallRecord | None],
        on_replay: Callable[[], None],
    ) -> CallRecord:
        """The call that a media socket opens.

        Args:
            token: the token that the socket presented.
            carrier_call_id: the call that the socket is for, according to the carrier.
            now: the current moment.
            known: the record of the call, if this process has prepared it.
            on_replay: called if the call was admitted and its token turns out to have been used elsewhere.

        Raises:
            TokenRefused: the token does not open this call, or has opened it before.
            CallCancelled: a dialled call was cancelled before it was answered.
            DatabaseUnavailable: the database does not answer, and this process has not prepared the call.
        """
        account_id, call_id, is_dialled = self._read(token, now)
        call = await self._named(account_id, call_id, carrier_call_id) if is_dialled else known(call_id)
        if call is not None and call.carrier_call_id != carrier_call_id:
            raise TokenRefused
        use = TokenUse(
            token=token,
            account_id=account_id,
            call_id=call_id,
            carrier_call_id=carrier_call_id,
            used_by=new_id(),
        )
        return await self._use(use, now, call, on_replay)

    async def _named(self, account_id: UUID, call_id: UUID, carrier_call_id: str) -> CallRecord | None:
        """A dialled call; its stream may begin before the carrier has answered the dial request."""
        naming = attempts.placed(self._database, account_id, call_id, carrier_call_id, RINGING)
        try:
            return await self._tasks.in_time(naming, OTHER_CALL_WAIT_S, name="naming a dialled call")
        except TimeoutError as error:
            raise DatabaseUnavailable(str(error)) from None

    def _read(self, token: str, now: datetime) -> tuple[UUID, UUID, bool]:
        """The account and the call of a token, and whether the call was dialled with it."""
        for tokens in (self._tokens, self._dialled):
            try:
                return (*tokens.read(token, now), tokens is self._dialled)
            except signed_token.TokenRefused:
                continue
        raise TokenRefused

    async def _use(
        self, use: TokenUse, now: datetime, call: CallRecord | None, on_replay: Callable[[], None]
    ) -> CallRecord:
        self._use_here(use.token, now)
        # One that was dialled may have been cancelled, which only the database knows.
        is_known = call is not None and call.direction == "inbound"
        wait_s = KNOWN_CALL_WAIT_S if is_known else OTHER_CALL_WAIT_S
        try:
            return await self._tasks.in_time(
                call_tokens.consume_token(self._database, use), wait_s, name="using a media token"
            )
        except (TimeoutError, DatabaseUnavailable) as error:
            if call is None:
                raise DatabaseUnavailable(str(error)) from None
        logger.warning("call {}: it begins before the database answers", call.id)
        self._tasks.start(self._use_later(use, on_replay), name="using a media token", droppable=True)
        return call

    def _use_here(self, token: str, now: datetime) -> None:
        """Refuse a token that was used in this process; remember the others until they expire."""
        for each, until in list(self._used.items()):
            if until > now:
                break  # in the order of insertion
            del self._used[each]
        key = token_hash(token)
        if key in self._used:
            raise TokenRefused
        self._used[key] = now + MEDIA_STREAM.lifetime

    async def _use_later(self, use: TokenUse, on_replay: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        expires_s = loop.time() + MEDIA_STREAM.lifetime.total_seconds()
        while loop.time() < expires_s:
            try:
                await call_tokens.consume_token(self._database, use)
            except TokenRefused:
                logger.warning("call {}: its media token was used elsewhere, or it has ended", use.call_id)
                on_replay()
                return
            except DatabaseError:
                await asyncio.sleep(RETRY_PAUSE_S)
            else:
                return
