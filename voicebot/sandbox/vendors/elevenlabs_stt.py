"""ElevenLabs Scribe in real time: transcription over a websocket.

Wire formats are those of https://elevenlabs.io/docs/api-reference/speech-to-text/v-1-speech-to-text-realtime:
``input_audio_chunk`` with base64 PCM and ``commit`` in; ``session_started``, ``partial_transcript``,
``committed_transcript``, ``committed_transcript_with_timestamps`` and errors out. With the commit strategy
``vad`` silence commits, with ``manual`` only the client does.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np
from aiohttp import WSMsgType, web

from voicebot.sandbox.speech.recogniser import RATE, Samples, Word
from voicebot.sandbox.speech.transcriber import Heard, RecogniserSource, Transcriber, TranscriberSettings
from voicebot.sandbox.vendors.latency import Latency
from voicebot.sandbox.vendors.vendor import Cut, Refusal, Vendor, cut, parse_object

PATH = "/v1/speech-to-text/realtime"

_INACTIVE_S = 20.0
_DEFAULT_SILENCE_S, _LEAST_SILENCE_S, _MOST_SILENCE_S = 1.5, 0.3, 3.0

_ERRORS = {400: "input_error", 401: "auth_error", 429: "rate_limited"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ElevenLabsStt:
    """The server. It recognises the phrases of `recognisers`."""

    vendor: Vendor
    latency: Latency
    recognisers: RecogniserSource[Any]

    def add_to(self, application: web.Application) -> None:
        """Serve at an application of the vendor."""
        application.router.add_get(PATH, self._listen)

    async def _listen(self, request: web.Request) -> web.WebSocketResponse:
        options = _options(request)
        socket = web.WebSocketResponse(max_msg_size=1 << 20)
        await socket.prepare(request)
        with self.vendor.usage.connection(
            "elevenlabs", options.model, request.path_qs, partial(cut, request)
        ):
            session = _Session(self, request, socket, options)
            try:
                await session.run()
            except Refusal as refusal:
                kind = _ERRORS.get(refusal.status, "transcriber_error")
                await session.send(kind, error=f"Refused with {refusal.status}.")
            except (Cut, ConnectionError):
                pass
            await socket.close()
        return socket


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    model: str
    rate: int
    by_vad: bool
    silence_ms: int
    timestamps: bool
    config: dict[str, Any]


class _Session:
    """One websocket. Words that are final but not committed wait in `_pending`."""

    def __init__(
        self, server: ElevenLabsStt, request: web.Request, socket: web.WebSocketResponse, options: _Options
    ) -> None:
        self._server, self._request, self._socket, self._options = server, request, socket, options
        endpointing_ms = options.silence_ms if options.by_vad else None
        self._transcriber = Transcriber(
            server.recognisers, TranscriberSettings(endpointing_ms=endpointing_ms, interim=True)
        )
        self._pending: list[Word] = []

    async def run(self) -> None:
        """Serve until either side closes."""
        await self.send("session_started", session_id=uuid4().hex, config=self._options.config)
        while True:
            try:
                message = await self._socket.receive(timeout=_INACTIVE_S)
            except TimeoutError:
                await self.send("insufficient_audio_activity", error="No audio was received for too long.")
                return
            if message.type is not WSMsgType.TEXT:
                return
            await self._take(message.data)

    async def send(self, kind: str, **members: Any) -> None:
        """Send, unless the client has gone."""
        if not self._socket.closed:
            await self._socket.send_str(json.dumps({"message_type": kind, **members}, ensure_ascii=False))

    async def _take(self, text: str) -> None:
        samples, commit = _chunk(text, self._options)
        for event in await self._transcriber.listen(samples):
            if isinstance(event, Heard):
                await self._heard(event)
        if commit:
            last = await asyncio.to_thread(self._transcriber.finalize)
            self._pending.extend(last.words)
            await self._commit()

    async def _heard(self, heard: Heard) -> None:
        if heard.final:
            self._pending.extend(heard.words)
            if self._options.by_vad:
                await self._commit()
            return
        await self.send("partial_transcript", text=_text([*self._pending, *heard.words]))

    async def _commit(self) -> None:
        words, self._pending = self._pending, []
        text, vendor = _text(words), self._server.vendor
        vendor.usage.request("elevenlabs", self._options.model, self._request.path_qs, text, len(text))
        await vendor.interrupt(self._request, text)
        await asyncio.sleep(self._server.latency.transcript_ms / 1000)
        await self.send("committed_transcript", text=text)
        if self._options.timestamps:
            timed = [{"text": w.written, "start": w.start_s, "end": w.end_s, "type": "word"} for w in words]
            await self.send("committed_transcript_with_timestamps", text=text, words=timed)


def _options(request: web.Request) -> _Options:
    query = request.query
    kind, _, rate = query.get("audio_format", "pcm_16000").partition("_")
    strategy = query.get("commit_strategy", "manual")
    try:
        silence_s = float(query.get("vad_silence_threshold_secs", _DEFAULT_SILENCE_S))
        if kind != "pcm" or int(rate) % RATE or strategy not in ("manual", "vad"):
            raise Refusal(400)
    except ValueError:
        raise Refusal(400) from None
    if not query.get("model_id") or not _LEAST_SILENCE_S <= silence_s <= _MOST_SILENCE_S:
        raise Refusal(400)
    return _Options(
        model=query["model_id"],
        rate=int(rate),
        by_vad=strategy == "vad",
        silence_ms=round(silence_s * 1000),
        timestamps=query.get("include_timestamps") == "true",
        config=dict(query),
    )


def _chunk(text: str, options: _Options) -> tuple[Samples, bool]:
    """The samples of a message at 8,000 Hz, and whether it commits."""
    try:
        message = parse_object(text)
        audio = base64.b64decode(message["audio_base_64"], validate=True)
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise Refusal(400) from None
    if message.get("message_type") != "input_audio_chunk" or message.get("sample_rate") != options.rate:
        raise Refusal(400)
    samples = np.frombuffer(audio[: len(audio) // 2 * 2], dtype="<i2")
    step = options.rate // RATE
    whole = len(samples) // step * step
    means = samples[:whole].reshape(-1, step).mean(axis=1) if step > 1 else samples
    return np.asarray(means, dtype=np.int16), bool(message.get("commit"))


def _text(words: list[Word]) -> str:
    return " ".join(word.written for word in words)
