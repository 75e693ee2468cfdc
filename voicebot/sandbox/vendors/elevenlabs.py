"""ElevenLabs: text to speech over its multi-context websocket and over HTTP.

Wire formats are those of the vendor's API reference (https://elevenlabs.io/docs/api-reference): the websocket
``multi-stream-input`` with contexts, flush, close_context, close_socket and inactivity; ``text-to-speech``
whole and as a stream; ``voices``. Any id is a voice unless a list of them is given.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from voicebot.sandbox.speech.synthesis import Utterance, utter
from voicebot.sandbox.vendors.audio import FORMATS, encoded, pieces
from voicebot.sandbox.vendors.latency import Latency
from voicebot.sandbox.vendors.vendor import Cut, Refusal, Silent, Vendor, cut, parse_object

_PAUSE_MS = 120
_CONTEXTS = 5
_INACTIVE_S, _MOST_INACTIVE_S = 20.0, 180.0
_SCHEDULE = (120, 160, 250, 290)
"""Characters that must have gathered before each part of a context is spoken, unless it is flushed."""


def error(status: int) -> dict[str, Any]:
    """Word an error as ElevenLabs does."""
    code, message = {
        400: ("invalid_output_format", "The sandbox speaks pcm_* and ulaw_8000."),
        401: ("invalid_api_key", "Invalid API key"),
        404: ("voice_not_found", "A voice with that id was not found."),
        422: ("invalid_request", "The request could not be read."),
        429: ("too_many_concurrent_requests", "Too many concurrent requests."),
    }.get(status, ("internal_server_error", "Something went wrong."))
    return {"detail": {"status": code, "message": message}}


def presented(headers: Mapping[str, str]) -> str:
    """Read the key of a request."""
    return headers.get("xi-api-key", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ElevenLabs:
    """The server. `voices` are the ids that exist; None: all do. `synthesise` speaks a text in a voice."""

    vendor: Vendor
    latency: Latency
    synthesise: Callable[[str, str], Utterance] = utter
    voices: frozenset[str] | None = None

    def application(self) -> web.Application:
        """Return the server as an application."""
        application = self.vendor.application()
        voice = "/v1/text-to-speech/{voice}"
        application.router.add_get(f"{voice}/multi-stream-input", self._converse)
        application.router.add_post(voice, self._speak)
        application.router.add_post(f"{voice}/stream", self._speak)
        application.router.add_get("/v1/voices", self._list)
        application.router.add_get("/v1/voices/{voice}", self._describe)
        return application

    async def _list(self, _request: web.Request) -> web.Response:
        known = self.voices if self.voices is not None else self.vendor.usage.keys("elevenlabs")
        return web.json_response({"voices": [_voice(voice_id) for voice_id in sorted(known)]})

    async def _describe(self, request: web.Request) -> web.Response:
        return web.json_response(_voice(self._voice_id(request)))

    async def _speak(self, request: web.Request) -> web.StreamResponse:
        voice_id = self._voice_id(request)
        output = _output(request, "mp3_44100_128")
        try:
            text = str(parse_object(await request.text())["text"])
        except (ValueError, KeyError):
            raise Refusal(422) from None
        self.vendor.usage.request("elevenlabs", voice_id, request.path_qs, text, len(text))
        response = web.StreamResponse(headers={"Content-Type": _content_type(output)})
        said = await self.say(text, voice_id)
        await response.prepare(request)
        await self.vendor.interrupt(request, text)
        audio = encoded(said.pcm, output)
        for start in range(0, len(audio), 8192):
            await response.write(audio[start : start + 8192])
        await response.write_eof()
        return response

    async def _converse(self, request: web.Request) -> web.WebSocketResponse:
        voice_id = self._voice_id(request)
        output = _output(request, "pcm_16000")
        socket = web.WebSocketResponse(max_msg_size=1 << 20)
        conversation = _Conversation(self, request, socket, voice_id, output)
        await socket.prepare(request)
        with self.vendor.usage.connection("elevenlabs", voice_id, request.path_qs, partial(cut, request)):
            await conversation.run()
        return socket

    async def say(self, text: str, voice_id: str) -> Utterance:
        """Synthesise in a thread, and take as long as a vendor would."""
        _, said = await asyncio.gather(
            asyncio.sleep(self.latency.first_audio_ms / 1000),
            asyncio.to_thread(self.synthesise, text, voice_id),
        )
        return said

    def _voice_id(self, request: web.Request) -> str:
        voice_id = request.match_info["voice"]
        if self.voices is not None and voice_id not in self.voices:
            raise Refusal(404)
        return voice_id


class _Conversation:
    """One websocket: contexts come and go, each speaks in turn with itself."""

    def __init__(
        self,
        server: ElevenLabs,
        request: web.Request,
        socket: web.WebSocketResponse,
        voice_id: str,
        output: str,
    ) -> None:
        self.server, self.request, self.socket = server, request, socket
        self.voice_id, self.output = voice_id, output
        self._auto = request.query.get("auto_mode") == "true"
        self._grace_s = _grace_s(request)
        self._contexts: dict[str, _Context] = {}

    async def run(self) -> None:
        """Serve until either side closes."""
        try:
            while True:
                message = await self.socket.receive(timeout=self._grace_s)
                if message.type is not WSMsgType.TEXT or not await self._take(parse_object(message.data)):
                    break
        except TimeoutError:
            await self._refuse("input_timeout_exceeded", "No text was received for too long.")
        except ValueError:
            await self._refuse("invalid_message", "A message is a JSON object.")
        finally:
            for context in self._contexts.values():
                context.speaking.cancel()
        await self.socket.close()

    async def _take(self, message: dict[str, Any]) -> bool:
        """Act on one message; False ends the conversation."""
        if message.get("close_socket"):
            await self._finish()
            return False
        name = str(message.get("context_id") or "default")
        text = str(message.get("text") or "")
        if name not in self._contexts:
            if not text:
                return True  # a keep-alive, or a context that has been closed already
            if len(self._contexts) >= _CONTEXTS:
                await self._refuse("max_active_contexts", f"At most {_CONTEXTS} contexts may be open.")
                return False
            self._contexts[name] = _Context(self, name)
        context = self._contexts[name]
        context.add(text, at_once=self._auto or bool(message.get("flush")))
        if message.get("close_context"):
            context.close()
        return True

    async def _finish(self) -> None:
        for context in list(self._contexts.values()):
            context.close()
        await asyncio.gather(
            *(context.speaking for context in self._contexts.values()), return_exceptions=True
        )

    async def send(self, message: dict[str, Any]) -> None:
        """Send, unless the client has gone."""
        if not self.socket.closed:
            await self.socket.send_str(json.dumps(message))

    async def speak(self, context: str, text: str, *, pause: bool) -> None:
        """Say one text in a context, piece by piece."""
        server = self.server
        server.vendor.usage.request("elevenlabs", self.voice_id, self.request.path_qs, text, len(text))
        try:
            await server.vendor.interrupt(self.request, text)
            said = await server.say(text, self.voice_id)
            for index, piece in enumerate(pieces(said, _PAUSE_MS if pause else 0)):
                await asyncio.sleep(server.latency.audio_ms / 1000 if index else 0)
                audio = base64.b64encode(encoded(piece.pcm, self.output)).decode()
                timing = piece.alignment
                await self.send(
                    {"audio": audio, "alignment": timing, "normalizedAlignment": timing, "contextId": context}
                )
        except Refusal as refusal:
            detail = error(refusal.status)["detail"]
            await self._refuse(detail["status"], detail["message"])
        except Silent:
            return
        except (Cut, ConnectionError):
            await self.socket.close()

    async def finished(self, context: str) -> None:
        """Tell that a context will say nothing more."""
        self._contexts.pop(context, None)
        await self.send({"isFinal": True, "contextId": context})

    async def _refuse(self, code: str, message: str) -> None:
        await self.send({"message": message, "error": code, "code": int(WSCloseCode.POLICY_VIOLATION)})
        await self.socket.close(code=WSCloseCode.POLICY_VIOLATION, message=message.encode())


class _Context:
    """Collects text until it is long enough to speak; texts are spoken in order."""

    def __init__(self, conversation: _Conversation, name: str) -> None:
        self._conversation = conversation
        self._name = name
        self._gathered = ""
        self._parts = 0
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        self.speaking = asyncio.create_task(self._speak(), name=f"context {name}")

    def add(self, text: str, *, at_once: bool) -> None:
        """Gather text; hand it on when asked to or when there is enough of it."""
        self._gathered += text
        enough = _SCHEDULE[min(self._parts, len(_SCHEDULE) - 1)]
        if self._gathered.strip() and (at_once or len(self._gathered) >= enough):
            self._parts += 1
            self._queue.put_nowait(self._gathered)
            self._gathered = ""

    def close(self) -> None:
        """Speak the rest, then stop."""
        self.add("", at_once=True)
        self._queue.put_nowait(None)

    async def _speak(self) -> None:
        said = False
        while (text := await self._queue.get()) is not None:
            await self._conversation.speak(self._name, text, pause=said)
            said = True
        await self._conversation.finished(self._name)


def _output(request: web.Request, default: str) -> str:
    output = request.query.get("output_format", default)
    if output not in FORMATS:
        raise Refusal(400)
    return output


def _grace_s(request: web.Request) -> float:
    try:
        return min(float(request.query.get("inactivity_timeout", _INACTIVE_S)), _MOST_INACTIVE_S)
    except ValueError:
        raise Refusal(422) from None


def _content_type(output: str) -> str:
    return "audio/basic" if output == "ulaw_8000" else "audio/pcm"


def _voice(voice_id: str) -> dict[str, Any]:
    return {
        "voice_id": voice_id,
        "name": voice_id,
        "category": "premade",
        "labels": {},
        "description": "A voice of the sandbox.",
        "settings": None,
    }
