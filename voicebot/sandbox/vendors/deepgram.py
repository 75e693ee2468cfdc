"""Deepgram: live transcription over its websocket, heard by pocketsphinx.

Wire formats are those of https://developers.deepgram.com/reference/speech-to-text/listen-streaming: binary
audio in; ``Results``, ``SpeechStarted``, ``UtteranceEnd`` and ``Metadata`` out; ``KeepAlive``, ``Finalize``
and ``CloseStream`` are obeyed. A stream without audio or KeepAlive for 10 s is closed (NET-0001).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from voicebot.sandbox.audio.mulaw import decode
from voicebot.sandbox.speech.recogniser import RATE, Samples, Word
from voicebot.sandbox.speech.transcriber import (
    Event,
    Heard,
    RecogniserSource,
    SpeechStarted,
    Transcriber,
    TranscriberSettings,
)
from voicebot.sandbox.vendors.latency import Latency
from voicebot.sandbox.vendors.vendor import Cut, Refusal, Silent, Vendor, cut, parse_object

_PATH = "/v1/listen"
_PATIENCE_S = 10.0
_CONFIDENCE = 0.98
_LEAST_UTTERANCE_END_MS = 1000
_DEFAULT_ENDPOINTING_MS = 10


def error(status: int) -> dict[str, Any]:
    """Word an error as Deepgram does."""
    code, message = {
        400: ("INVALID_QUERY_PARAMETER", "The request could not be understood."),
        401: ("INVALID_AUTH", "Invalid credentials."),
        429: ("TOO_MANY_REQUESTS", "Too many requests. Please try again later."),
    }.get(status, ("INTERNAL_SERVER_ERROR", "Something went wrong."))
    return {"err_code": code, "err_msg": message, "request_id": str(uuid4())}


def presented(headers: Mapping[str, str]) -> str:
    """Read the key of a request."""
    kind, _, key = headers.get("Authorization", "").partition(" ")
    return key.strip() if kind.lower() in ("token", "bearer") else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deepgram:
    """The server. What it can understand are the phrases of `recognisers`."""

    vendor: Vendor
    latency: Latency
    recognisers: RecogniserSource[Any]

    def application(self) -> web.Application:
        """Return the server as an application."""
        application = self.vendor.application()
        application.router.add_get(_PATH, self._listen)
        return application

    async def _listen(self, request: web.Request) -> web.WebSocketResponse:
        options = _options(request)
        socket = web.WebSocketResponse(max_msg_size=1 << 20)
        socket.headers["dg-request-id"] = options.request_id
        await socket.prepare(request)
        with self.vendor.usage.connection("deepgram", options.model, request.path_qs, partial(cut, request)):
            stream = _Stream(self, request, socket, options)
            try:
                await stream.run()
            except Refusal as refusal:
                wording = error(refusal.status)
                await _send(
                    socket,
                    {
                        "type": "Error",
                        "description": wording["err_msg"],
                        "message": wording["err_code"],
                        "variant": "",
                    },
                )
                await socket.close(code=WSCloseCode.INTERNAL_ERROR, message=wording["err_code"].encode())
            except (Cut, ConnectionError):
                await socket.close()
        return socket


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    model: str
    mulaw: bool
    rate: int
    punctuate: bool
    speech_events: bool
    settings: TranscriberSettings
    request_id: str


class _Stream:
    """One websocket: audio is heard in the order in which it came."""

    def __init__(
        self, server: Deepgram, request: web.Request, socket: web.WebSocketResponse, options: _Options
    ) -> None:
        self._server, self._request, self._socket, self._options = server, request, socket, options
        self._transcriber = Transcriber(server.recognisers, options.settings)
        self._digest = hashlib.sha256()
        self._model_uuid = str(uuid4())

    async def run(self) -> None:
        """Serve until either side closes."""
        while True:
            try:
                message = await self._socket.receive(timeout=_PATIENCE_S)
            except TimeoutError:
                await self._socket.close(code=WSCloseCode.INTERNAL_ERROR, message=b"NET-0001")
                break
            if not await self._take(message):
                break
        last = await asyncio.to_thread(self._transcriber.close)
        if not self._socket.closed and last is not None:
            await self._report(last)

    async def _take(self, message: WSMessage) -> bool:
        """Act on one message; False ends the stream."""
        if message.type is WSMsgType.BINARY:
            self._digest.update(message.data)
            for event in await self._transcriber.listen(_samples(message.data, self._options)):
                await self._report(event)
            return True
        if message.type is not WSMsgType.TEXT:
            return False
        return await self._obey(message.data)

    async def _obey(self, text: str) -> bool:
        try:
            kind = parse_object(text).get("type")
        except ValueError:
            raise Refusal(400) from None
        if kind == "Finalize":
            await self._report(await asyncio.to_thread(self._transcriber.finalize))
        elif kind == "CloseStream":
            await self._end()
            return False
        return True

    async def _end(self) -> None:
        last = await asyncio.to_thread(self._transcriber.close)
        if last is not None:
            await self._report(last)
        await _send(self._socket, self._metadata())
        await self._socket.close()

    async def _report(self, event: Event) -> None:
        if isinstance(event, SpeechStarted):
            if self._options.speech_events:
                await _send(
                    self._socket, {"type": "SpeechStarted", "channel": [0, 1], "timestamp": event.at_s}
                )
        elif isinstance(event, Heard):
            await self._transcript(event)
        else:
            await _send(
                self._socket,
                {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": event.last_word_end_s},
            )

    async def _transcript(self, heard: Heard) -> None:
        text = _text(heard.words, punctuated=self._options.punctuate)
        if heard.final:
            vendor = self._server.vendor
            vendor.usage.request("deepgram", self._options.model, self._request.path_qs, text, len(text))
            try:
                await vendor.interrupt(self._request, text)
            except Silent:
                return
            await asyncio.sleep(self._server.latency.transcript_ms / 1000)
        await _send(self._socket, self._results(heard, text))

    def _results(self, heard: Heard, text: str) -> dict[str, Any]:
        alternative = {
            "transcript": text,
            "confidence": _CONFIDENCE if heard.words else 0.0,
            "words": [_word(word, punctuated=self._options.punctuate) for word in heard.words],
        }
        return {
            "type": "Results",
            "channel_index": [0, 1],
            "duration": round(heard.duration_s, 3),
            "start": round(heard.start_s, 3),
            "is_final": heard.final,
            "speech_final": heard.ended,
            "channel": {"alternatives": [alternative]},
            "metadata": {
                "request_id": self._options.request_id,
                "model_info": {"name": self._options.model, "version": "sandbox", "arch": "pocketsphinx"},
                "model_uuid": self._model_uuid,
            },
            "from_finalize": heard.asked,
        }

    def _metadata(self) -> dict[str, Any]:
        return {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self._options.request_id,
            "sha256": self._digest.hexdigest(),
            "created": datetime.now(UTC).isoformat(),
            "duration": round(self._transcriber.now_s, 3),
            "channels": 1,
        }


async def _send(socket: web.WebSocketResponse, message: dict[str, Any]) -> None:
    if not socket.closed:
        await socket.send_str(json.dumps(message, ensure_ascii=False))


def _options(request: web.Request) -> _Options:
    query = request.query
    encoding = query.get("encoding", "")
    try:
        rate = int(query.get("sample_rate", "0"))
        gap = query.get("utterance_end_ms")
        settings = TranscriberSettings(
            endpointing_ms=_endpointing(query.get("endpointing", "")),
            interim=_on(query.get("interim_results")),
            utterance_end_ms=max(int(gap), _LEAST_UTTERANCE_END_MS) if gap else None,
        )
    except ValueError:
        raise Refusal(400) from None
    unsupported = encoding not in ("linear16", "mulaw") or rate <= 0 or rate % RATE
    if unsupported or query.get("channels", "1") != "1" or (encoding == "mulaw" and rate != RATE):
        raise Refusal(400)
    return _Options(
        model=query.get("model", "base"),
        mulaw=encoding == "mulaw",
        rate=rate,
        punctuate=_on(query.get("punctuate")) or _on(query.get("smart_format")),
        speech_events=_on(query.get("vad_events")),
        settings=settings,
        request_id=str(uuid4()),
    )


def _endpointing(value: str) -> int | None:
    if value.lower() == "false":
        return None
    return _DEFAULT_ENDPOINTING_MS if value.lower() in ("", "true") else int(value)


def _on(value: str | None) -> bool:
    return (value or "").lower() == "true"


def _samples(audio: bytes, options: _Options) -> Samples:
    """Bring audio to 8,000 Hz by taking means; a message holds whole samples, in steps of that rate."""
    if options.mulaw:
        return decode(audio)
    samples = np.frombuffer(audio[: len(audio) // 2 * 2], dtype="<i2")
    step = options.rate // RATE
    if step == 1:
        return samples
    whole = len(samples) // step * step
    return np.asarray(samples[:whole].reshape(-1, step).mean(axis=1), dtype=np.int16)


def _text(words: Sequence[Word], *, punctuated: bool) -> str:
    return " ".join(word.written if punctuated else word.bare for word in words)


def _word(word: Word, *, punctuated: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "word": word.bare,
        "start": word.start_s,
        "end": word.end_s,
        "confidence": _CONFIDENCE,
    }
    if punctuated:
        entry["punctuated_word"] = word.written
    return entry
