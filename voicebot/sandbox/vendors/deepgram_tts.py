"""Deepgram Aura: text to speech over a websocket and over HTTP.

Wire formats are those of https://developers.deepgram.com/reference/text-to-speech/speak-streaming: ``Speak``,
``Flush``, ``Clear`` and ``Close`` in; binary audio, ``Metadata``, ``Flushed``, ``Cleared`` and ``Warning``
out. Text is spoken sentence by sentence; what has no end of a sentence waits for ``Flush``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

from aiohttp import WSCloseCode, WSMsgType, web

from voicebot.sandbox.speech.synthesis import Utterance, utter
from voicebot.sandbox.vendors import deepgram
from voicebot.sandbox.vendors.audio import FORMATS, encoded, pieces
from voicebot.sandbox.vendors.latency import Latency
from voicebot.sandbox.vendors.vendor import Cut, Refusal, Vendor, cut, parse_object

PATH = "/v1/speak"

_INACTIVE_S = 3600.0
_SENTENCE_ENDS = (".", "!", "?", ":", ";", "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepgramTts:
    """The server. Any name that begins with `aura-` is a voice; `synthesise` speaks a text in a voice."""

    vendor: Vendor
    latency: Latency
    synthesise: Callable[[str, str], Utterance] = utter

    def add_to(self, application: web.Application) -> None:
        """Serve at an application of the vendor."""
        application.router.add_get(PATH, self._stream)
        application.router.add_post(PATH, self._speak)

    async def say(self, text: str, voice: str) -> Utterance:
        """Synthesise in a thread, and take as long as a vendor would."""
        _, said = await asyncio.gather(
            asyncio.sleep(self.latency.first_audio_ms / 1000),
            asyncio.to_thread(self.synthesise, text, voice),
        )
        return said

    async def _speak(self, request: web.Request) -> web.Response:
        voice, output = _voice(request)
        try:
            text = str(parse_object(await request.text())["text"])
        except (ValueError, KeyError):
            raise Refusal(400) from None
        self.vendor.usage.request("deepgram", voice, request.path_qs, text, len(text))
        await self.vendor.interrupt(request, text)
        said = await self.say(text, voice)
        return web.Response(body=encoded(said.pcm, output), content_type="audio/l16")

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        voice, output = _voice(request)
        socket = web.WebSocketResponse(max_msg_size=1 << 20)
        socket.headers["dg-request-id"] = str(uuid4())
        await socket.prepare(request)
        with self.vendor.usage.connection("deepgram", voice, request.path_qs, partial(cut, request)):
            stream = _Stream(self, request, socket, voice, output)
            await stream.run()
        return socket


class _Stream:
    """One websocket: sentences are spoken in order by one task, which `Clear` replaces."""

    def __init__(
        self,
        server: DeepgramTts,
        request: web.Request,
        socket: web.WebSocketResponse,
        voice: str,
        output: str,
    ) -> None:
        self._server, self._request, self._socket = server, request, socket
        self._voice, self._output = voice, output
        self._text = ""
        self._sequence = 0
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._speaking = self._begin()

    async def run(self) -> None:
        """Serve until either side closes."""
        await self._send("Metadata", request_id=str(uuid4()), model_name=self._voice, model_version="sandbox")
        try:
            while True:
                message = await self._socket.receive(timeout=_INACTIVE_S)
                if message.type is not WSMsgType.TEXT or not await self._obey(parse_object(message.data)):
                    break
        except TimeoutError:
            await self._socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"NET-0001")
        except ValueError:
            await self._warn("DATA-0000", "A message is a JSON object.")
        finally:
            self._speaking.cancel()
        await self._socket.close()

    async def _obey(self, message: dict[str, Any]) -> bool:
        """Act on one message; False ends the stream."""
        match message.get("type"):
            case "Speak":
                self._text += str(message.get("text", ""))
                if self._text.rstrip(" ").endswith(_SENTENCE_ENDS):
                    self._pass_on()
            case "Flush":
                self._pass_on()
                self._queue.put_nowait(None)
            case "Clear":
                await self._clear()
            case "Close":
                return False
            case kind:
                await self._warn("DATA-0001", f"Unknown message type {kind}.")
        return True

    def _pass_on(self) -> None:
        if self._text.strip():
            self._queue.put_nowait(self._text)
        self._text = ""

    async def _clear(self) -> None:
        self._speaking.cancel()
        with suppress(asyncio.CancelledError):
            await self._speaking
        self._text = ""
        self._queue = asyncio.Queue()
        self._speaking = self._begin()
        await self._send("Cleared", sequence_id=self._next())

    def _begin(self) -> asyncio.Task[None]:
        return asyncio.create_task(self._speak(self._queue), name=f"speak as {self._voice}")

    async def _speak(self, queue: asyncio.Queue[str | None]) -> None:
        try:
            while True:
                text = await queue.get()
                if text is None:
                    await self._send("Flushed", sequence_id=self._next())
                else:
                    await self._sound(text)
        except Refusal as refusal:
            wording = deepgram.error(refusal.status)
            await self._send("Error", err_code=wording["err_code"], err_msg=wording["err_msg"])
            await self._socket.close(code=WSCloseCode.INTERNAL_ERROR)
        except (Cut, ConnectionError):
            await self._socket.close()

    async def _sound(self, text: str) -> None:
        server = self._server
        server.vendor.usage.request("deepgram", self._voice, self._request.path_qs, text, len(text))
        await server.vendor.interrupt(self._request, text)
        said = await server.say(text, self._voice)
        for index, piece in enumerate(pieces(said)):
            await asyncio.sleep(server.latency.audio_ms / 1000 if index else 0)
            if not self._socket.closed:
                await self._socket.send_bytes(encoded(piece.pcm, self._output))

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    async def _warn(self, code: str, description: str) -> None:
        await self._send("Warning", warn_code=code, warn_msg=description)

    async def _send(self, kind: str, **members: Any) -> None:
        if not self._socket.closed:
            await self._socket.send_str(json.dumps({"type": kind, **members}))


def _voice(request: web.Request) -> tuple[str, str]:
    """The voice and the format (of `FORMATS`) that a request asks for."""
    query = request.query
    voice, encoding, rate = query.get("model", ""), query.get("encoding", ""), query.get("sample_rate", "")
    output = {"linear16": f"pcm_{rate}", "mulaw": f"ulaw_{rate}"}.get(encoding)
    if not voice.startswith("aura-") or output not in FORMATS:
        raise Refusal(400)
    return voice, output
