"""Light callers of Exotel: 16-bit PCM in messages of 100 ms, after a request of the Voicebot applet."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import Sequence
from functools import lru_cache

import httpx
import numpy as np
from websockets.asyncio.client import connect

from bench.conversations import Conversation
from bench.light_callers import LightCall, LightFormat, spoken_frames
from voicebot.sandbox.audio.mulaw import decode, encode
from voicebot.sandbox.exotel import ExotelSettings

CARRIER = "exotel"


@lru_cache(maxsize=4096)
def _pcm(frame: str) -> bytes:
    return bytes(decode(base64.b64decode(frame)).astype("<i2").tobytes())


def _message(frames: Sequence[str]) -> str:
    return base64.b64encode(b"".join(map(_pcm, frames))).decode()


def _mulaw(pcm: bytes) -> bytes:
    return encode(np.frombuffer(pcm, "<i2"))


FORMAT = LightFormat(
    sid_key="stream_sid",
    frames=5,
    to_wire=_message,
    from_wire=_mulaw,
    sample_bytes=2,
    pitch_message=1,
    stop={"reason": "callended"},
)


class ExotelCarrier:
    """Places light calls at a server, by the webhook of the Voicebot applet."""

    def __init__(self, settings: ExotelSettings, number: str, conversation: Conversation) -> None:
        self._settings, self._number = settings, number
        self._client = httpx.AsyncClient(timeout=5, trust_env=False)
        self._conversation = conversation
        self._frames = spoken_frames(conversation)

    async def place(self, index: int) -> LightCall:
        """Ask for the address, open the media socket, and send `start`."""
        sid, loop = secrets.token_hex(16), asyncio.get_running_loop()
        caller, started = f"+{919876500000 + index}", loop.time()
        server = self._settings.server_url or self._settings.public_url
        url = self._settings.applet_url("voice").replace(self._settings.public_url, server, 1)
        answer = await self._client.get(
            url, params={"CallSid": sid, "CallFrom": caller, "CallTo": self._number}
        )
        webhook_s = loop.time() - started
        address = str(answer.raise_for_status().json()["url"]).replace(
            self._settings.public_url.replace("http", "ws", 1), server.replace("http", "ws", 1), 1
        )
        socket = await connect(address, compression=None, ping_interval=None, max_size=None)
        start = {
            "stream_sid": sid, "call_sid": sid, "account_sid": self._settings.account_sid,
            "from": caller, "to": self._number, "custom_parameters": {},
            "media_format": {"encoding": "raw/slin", "sample_rate": "8000", "bit_rate": "128kbps"},
        }  # fmt: skip
        await socket.send(json.dumps({"event": "connected"}))
        await socket.send(json.dumps({"event": "start", "stream_sid": sid, "start": start}))
        call = LightCall(socket, sid, self._conversation, self._frames, FORMAT)
        call.figures.webhook_s = webhook_s
        return call

    async def close(self) -> None:
        """Close the connections of the webhook."""
        await self._client.aclose()
