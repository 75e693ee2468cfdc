"""The audio socket of an operator who takes a call over from a browser.

Binary frames are 16-bit mono PCM at 16,000 Hz, in both directions. Text frames of the client are
`{"mute":bool}` and `{"leave":"resolve|return"}`. The operator begins muted: they hear the caller, and the
caller hears nothing of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import WebSocket
from loguru import logger
from pydantic import BaseModel, ConfigDict, Strict, ValidationError
from starlette.websockets import WebSocketDisconnect, WebSocketState

from db import keys, users
from db.errors import DatabaseError, KeyRefused, NotFound
from db.handoffs import HandoffRecord
from voicebot.api.app_state import AppState, AppStateDep, CallTakeover
from voicebot.api.audio_relay import connect_to_holder, is_relayed, relay
from voicebot.api.problems import ApiProblem
from voicebot.api.resource_router import resource_router
from voicebot.api.signed_token import TokenRefused
from voicebot.handoffs.browser_bridge import Leave
from voicebot.handoffs.transitions import IllegalTransition, StaleClaim

router = resource_router("/handoffs", "handoffs", media_types=None)

# RFC 6455 section 7.4.1 and the IANA registry of close codes.
NORMAL = 1000
LOST = 1006
UNREADABLE = 1007
POLICY = 1008
TOO_BIG = 1009
TRY_AGAIN_LATER = 1013

ROLES = ("owner", "admin", "operator")
MAX_FRAME_BYTES = 32_000
"""The largest binary frame: one second of audio."""
MAX_TEXT = 1_000
BYTES_PER_S = 32_000.0
MAX_AHEAD_S = 3.0
"""How far ahead of real time a client may send before it is disconnected."""
QUEUE_FRAMES = 100
"""How many pieces of the caller's audio (20 ms each) wait for a slow client; older ones are dropped."""
RENEW_S = 5.0


class Control(BaseModel):
    """A text frame of the client."""

    model_config = ConfigDict(extra="forbid")

    mute: Annotated[bool, Strict()] | None = None
    leave: Leave | None = None


@dataclass(frozen=True, slots=True)
class Closing(Exception):
    """The socket is to be closed with this code."""

    code: int
    reason: str


@router.websocket("/{handoff_id}/audio")
async def handoff_audio(websocket: WebSocket, app: AppStateDep, handoff_id: UUID, token: str = "") -> None:
    """Listen to the caller of a claimed handoff, speak with them, and leave.

    A socket of a client is accepted before it is refused, because a browser reads the code of a close but not
    the status of a handshake.
    """
    if not is_relayed(websocket):
        await websocket.accept()
    try:
        handoff, key_id, account_id = await _authorize(app, handoff_id, token)
        takeover = None if handoff.call_id is None else app.call_registry.takeover(handoff.call_id)
        if takeover is None:
            await _relay(app, websocket, handoff)
            return
        opened = app.open_streams.open(account_id, key_id)
    except Closing as closing:
        await websocket.close(closing.code, closing.reason)
        return
    except ApiProblem as problem:
        await websocket.close(TRY_AGAIN_LATER, problem.detail[:100])
        return
    try:
        if is_relayed(websocket):
            await websocket.accept()
        await _Operator(app, websocket, handoff, takeover).run(opened.revoked)
    finally:
        opened.close()


async def _authorize(app: AppState, handoff_id: UUID, token: str) -> tuple[HandoffRecord, UUID, UUID]:
    """The handoff that the owner of a stream token holds, and the key and account of the token."""
    try:
        account_id, key_id = app.stream_tokens.read(token, app.clock.now())
        key = await keys.get_valid(app.database, account_id, key_id)
        if key.role not in ROLES:
            raise Closing(POLICY, "the key's role does not allow this")
        user = await users.of_key(app.database, account_id, key_id)
        handoff = await app.handoffs.browser.holds(account_id, handoff_id, user.id)
    except (TokenRefused, KeyRefused):
        raise Closing(POLICY, "the token is not valid") from None
    except (NotFound, StaleClaim):
        raise Closing(POLICY, "you do not hold this handoff") from None
    except DatabaseError:
        raise Closing(TRY_AGAIN_LATER, "try again") from None
    return handoff, key_id, account_id


async def _relay(app: AppState, websocket: WebSocket, handoff: HandoffRecord) -> None:
    """Relay the socket to the process that has the call.

    Raises:
        Closing: no process that can be reached has it.
    """
    holder = await connect_to_holder(app, websocket, handoff)
    if holder is None:
        raise Closing(TRY_AGAIN_LATER, "the call has ended, or its server cannot be reached from here")
    if is_relayed(websocket):
        await websocket.accept()
    code, reason = await relay(websocket, holder)
    if code is not None and websocket.client_state is WebSocketState.CONNECTED:
        lost = code == LOST
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await websocket.close(
                TRY_AGAIN_LATER if lost else code, reason or ("connection lost" if lost else "")
            )


class _Operator:
    """One connected operator."""

    def __init__(
        self, app: AppState, websocket: WebSocket, handoff: HandoffRecord, takeover: CallTakeover
    ) -> None:
        self._app = app
        self._websocket = websocket
        self._handoff = handoff
        self._takeover = takeover
        self._audio: asyncio.Queue[bytes] = asyncio.Queue(QUEUE_FRAMES)
        self._is_muted = True
        self._received = 0
        self._began_s = asyncio.get_running_loop().time()

    async def run(self, revoked: asyncio.Event) -> None:
        """Serve the operator until they leave, the call ends, or the claim does."""
        if not self._takeover.listen(self._hear):
            await self._websocket.close(POLICY, "somebody listens to this call already")
            return
        tasks = [
            asyncio.create_task(work)
            for work in (self._receive(), self._send(), self._renew(), self._call_ended(), _revoked(revoked))
        ]
        closing = Closing(NORMAL, "")
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if isinstance(error, Closing):
                    closing = error
                elif error is not None and not isinstance(error, WebSocketDisconnect):
                    logger.opt(exception=error).error("handoff {}: the audio failed", self._handoff.id)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._left()
        if self._websocket.client_state is WebSocketState.CONNECTED:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await self._websocket.close(closing.code, closing.reason)

    async def _left(self) -> None:
        """The operator disconnected without a `leave` frame: the caller goes back to the agent."""
        if await self._takeover.leave():
            how: Leave = "resolve" if self._takeover.ended.is_set() else "return"
            with contextlib.suppress(StaleClaim, IllegalTransition, DatabaseError):
                await self._app.handoffs.browser.leave(self._handoff, how)

    def _hear(self, audio: bytes) -> None:
        if self._audio.full():
            self._audio.get_nowait()
        self._audio.put_nowait(audio)

    async def _send(self) -> None:
        while True:
            await self._websocket.send_bytes(await self._audio.get())

    async def _receive(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code") or 1005)
            if (audio := message.get("bytes")) is not None:
                await self._speak(audio)
            else:
                await self._control(message.get("text") or "")

    async def _speak(self, audio: bytes) -> None:
        if len(audio) > MAX_FRAME_BYTES:
            raise Closing(TOO_BIG, "a frame of more than one second")
        self._received += len(audio)
        elapsed_s = asyncio.get_running_loop().time() - self._began_s
        if self._received > (elapsed_s + MAX_AHEAD_S) * BYTES_PER_S:
            raise Closing(POLICY, "audio faster than real time")
        if not self._is_muted:
            await self._takeover.speak(audio)

    async def _control(self, text: str) -> None:
        try:
            control = Control.model_validate(json.loads(text[: MAX_TEXT + 1]))
        except (ValueError, RecursionError, ValidationError):
            raise Closing(UNREADABLE, 'send {"mute":bool} or {"leave":"resolve|return"}') from None
        if control.mute is not None:
            await self._mute(control.mute)
        if control.leave is not None:
            await self._leave(control.leave)

    async def _mute(self, muted: bool) -> None:
        """Handle `mute`; the operator takes the call over when they first unmute."""
        if not muted and not self._takeover.speaks:
            try:
                await self._app.handoffs.browser.begin(self._handoff)
            except (StaleClaim, IllegalTransition):
                raise Closing(POLICY, "the claim has ended, or the caller is being connected") from None
            await self._takeover.begin()
        self._is_muted = muted

    async def _leave(self, how: Leave) -> None:
        with contextlib.suppress(StaleClaim):
            await self._app.handoffs.browser.leave(self._handoff, how)
        if how == "resolve" and self._takeover.speaks and self._handoff.call_id is not None:
            await self._app.call_registry.end(
                self._handoff.call_id, ended_by="operator", reason="handoff_resolved"
            )
        raise Closing(NORMAL, how)

    async def _renew(self) -> None:
        """Renew the handoff's lease, and close the socket when the claim has ended."""
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                holds = await self._app.handoffs.browser.renew(self._handoff)
            except DatabaseError as error:
                logger.warning("handoff {}: not renewed: {}", self._handoff.id, type(error).__name__)
                continue
            if not holds:
                raise Closing(POLICY, "the claim has ended")

    async def _call_ended(self) -> None:
        await self._takeover.ended.wait()
        raise Closing(NORMAL, "the call has ended")


async def _revoked(revoked: asyncio.Event) -> None:
    await revoked.wait()
    raise Closing(POLICY, "the key is no longer valid")
