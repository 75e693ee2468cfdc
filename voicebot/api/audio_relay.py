"""Relays an operator's audio socket to the process that has the call.

The other workers of the server are tried first, over their Unix sockets. Then the database tells which
process has the call, and the socket is relayed to the address of its server (`VOICEBOT_SERVER_URL`). A
process that gets a relayed handshake and does not have the call refuses it, so that the next one can be
tried.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from db import processes
from db.errors import DatabaseError
from db.handoffs import HandoffRecord
from voicebot.api.app_state import AppState
from voicebot.api.worker_forwarding import is_of_worker
from voicebot.call.replicas import READY_WITHIN
from voicebot.config import websocket_url
from voicebot.other_workers import WORKER_HEADER
from voicebot.providers.websocket import connection_options

SERVER_HEADER = "x-voicebot-server"
"""The header of a relayed handshake; such a socket is not relayed again."""

OPEN_TIMEOUT_S = 2.0
"""How long the handshake with another process may take."""


def is_relayed(websocket: WebSocket) -> bool:
    """Whether another process sent the handshake, which is refused if the call is not here."""
    return is_of_worker(websocket) or SERVER_HEADER in websocket.headers


async def connect_to_holder(
    app: AppState, websocket: WebSocket, handoff: HandoffRecord
) -> ClientConnection | None:
    """Connect to the process that has the call of a handoff, as the operator did to this one.

    Returns:
        None if no process can be reached that has it.
    """
    if is_of_worker(websocket):
        return None
    target = f"{websocket.url.path}?{websocket.url.query}"
    worker = app.other_workers.worker
    for number in worker.others:
        own = {WORKER_HEADER: str(worker.number)}
        path = str(worker.socket_of(number))
        found = await _open(unix_connect(path, f"ws://worker{target}", **_options("ws://"), **_headers(own)))
        if found is not None:
            return found
    address = None if SERVER_HEADER in websocket.headers else await _address(app, handoff)
    if address is None or address == app.settings.server_url:
        return None
    url = websocket_url(address)
    return await _open(connect(f"{url}{target}", **_options(url), **_headers({SERVER_HEADER: "1"})))


async def relay(websocket: WebSocket, holder: ClientConnection) -> tuple[int | None, str]:
    """Forward everything in both directions until one side is closed.

    Returns:
        The close code and the reason of the process that has the call; None: the operator is gone.
    """
    tasks = [asyncio.create_task(each) for each in (_up(websocket, holder), _down(websocket, holder))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        is_gone = tasks[0].done() and not tasks[1].done() and holder.close_code is None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await holder.close()
    return (None, "") if is_gone else (holder.close_code, holder.close_reason or "")


async def _up(websocket: WebSocket, holder: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed, WebSocketDisconnect):
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            audio = message.get("bytes")
            await holder.send(audio if audio is not None else message.get("text") or "")


async def _down(websocket: WebSocket, holder: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed, WebSocketDisconnect, RuntimeError):
        async for message in holder:
            if isinstance(message, bytes):
                await websocket.send_bytes(message)
            else:
                await websocket.send_text(message)


async def _address(app: AppState, handoff: HandoffRecord) -> str | None:
    if handoff.call_id is None:
        return None
    try:
        return await processes.address_of_call(
            app.database, handoff.account_id, handoff.call_id, within=READY_WITHIN
        )
    except DatabaseError:
        return None


async def _open(connecting: connect) -> ClientConnection | None:
    """The connection; None if the process refuses, because it does not have the call, or does not answer."""
    try:
        return await connecting
    except (OSError, TimeoutError, WebSocketException):
        return None


def _options(url: str) -> dict[str, Any]:
    # A socket of a telephone call is never idle, and audio is hardly compressed.
    return {**connection_options(url), "open_timeout": OPEN_TIMEOUT_S, "ping_interval": None, "proxy": None}


def _headers(headers: dict[str, str]) -> dict[str, Any]:
    return {"additional_headers": headers, "close_timeout": 1}
