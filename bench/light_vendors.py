"""Vendors that cost little CPU time: scripted transcripts, a tone for each voice, a scripted model.

`python -m bench.light_vendors` serves Deepgram's live transcription, ElevenLabs' multi-context speech and
OpenAI's streamed completions on one port, prints `{"url": …}`, and ends when its standard input ends.

`--conversation` is one of `bench.conversations`.

- STT: speech is what is louder than silence. Its transcript is the utterance that the socket has reached; it
  is final after `endpointing` ms of silence or with `Finalize`.
- LLM: calls a function whose name begins with `route` and that offers the agent to whom the caller's last
  words lead, unless they have led to a call already; otherwise says `ANSWER`.
- TTS: a sine whose pitch is `PITCHES[voice]`, `CHARACTER_MS` long for each character.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import json
import math
import struct
import sys
from collections.abc import Iterator
from typing import Any

from aiohttp import WSMsgType, web

from bench.conversations import CONVERSATIONS, PITCHES, Conversation

CONVERSATION = web.AppKey("conversation", Conversation)

ANSWER = "We are open from eight to five, every day of the week."
CHARACTER_MS = 60
FIRST_TOKEN_S = 0.06
FIRST_AUDIO_S = 0.04

_PIECE_MS = 200
_LOUD = 500
_INTERIM_MS = 240.0
"""After so much speech the first interim result comes; then one comes after each half second of it."""
_NEXT_INTERIM_MS = 500.0
_TOKEN_S = 0.003


class Transcriber:
    """Finds utterances in 16-bit PCM at 8,000 Hz and returns Deepgram's messages."""

    def __init__(self, conversation: Conversation, endpointing_ms: float) -> None:
        self._endpointing_ms = endpointing_ms
        utterances = conversation.utterances
        self._utterances = itertools.chain(utterances, itertools.repeat(utterances[-1]))
        self._text = ""
        self._speech_ms = self._silence_ms = 0.0
        self._interim_at_ms = _INTERIM_MS

    def hear(self, audio: bytes) -> Iterator[dict[str, Any]]:
        """Take audio; yield the interim and final results that it leads to."""
        for at in range(0, len(audio), 320):
            frame = audio[at : at + 320]
            ms = len(frame) / 16
            if max(map(abs, memoryview(frame[: len(frame) // 2 * 2]).cast("h")[::8])) > _LOUD:
                self._text = self._text or next(self._utterances)
                self._speech_ms, self._silence_ms = self._speech_ms + ms, 0.0
                if self._speech_ms >= self._interim_at_ms:
                    self._interim_at_ms += _NEXT_INTERIM_MS
                    yield _results(self._text.partition(" ")[0], final=False)
            elif self._text:
                self._silence_ms += ms
                if self._silence_ms >= self._endpointing_ms:
                    yield self.finish(asked=False)

    def finish(self, *, asked: bool = True) -> dict[str, Any]:
        """The final result of the utterance so far, or an empty one."""
        text, self._text = self._text, ""
        self._speech_ms = self._silence_ms = 0.0
        self._interim_at_ms = _INTERIM_MS
        return _results(text, final=True, asked=asked)


def _results(text: str, *, final: bool, asked: bool = False) -> dict[str, Any]:
    alternative = {"transcript": text, "confidence": 0.98, "words": []}
    return {
        "type": "Results", "channel_index": [0, 1], "duration": 1.0, "start": 0.0,
        "is_final": final, "speech_final": final, "from_finalize": asked,
        "channel": {"alternatives": [alternative]},
        "metadata": {
            "request_id": "bench", "model_uuid": "bench",
            "model_info": {"name": "bench", "version": "1", "arch": "bench"},
        },
    }  # fmt: skip


async def listen(request: web.Request) -> web.WebSocketResponse:
    """Deepgram's `/v1/listen`."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    transcriber = Transcriber(request.app[CONVERSATION], float(request.query.get("endpointing", "300")))
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            for result in transcriber.hear(message.data):
                await socket.send_str(json.dumps(result))
        elif "Finalize" in message.data:
            await socket.send_str(json.dumps(transcriber.finish()))
        elif "CloseStream" in message.data:
            break
    await socket.close()
    return socket


class Voice:
    """One socket of ElevenLabs: speaks each text of a context in turn."""

    def __init__(self, socket: web.WebSocketResponse, voice: str) -> None:
        self._socket, self._voice = socket, voice
        self._speaking: dict[str, asyncio.Task[None]] = {}
        self._gathered: dict[str, str] = {}

    async def take(self, message: dict[str, Any]) -> None:
        """Act on one message."""
        context = message.get("context_id", "")
        self._gathered[context] = self._gathered.get(context, "") + message.get("text", "")
        if not context:
            return
        ends = bool(message.get("close_context"))
        if self._gathered[context].strip() or (ends and context in self._speaking):
            text, self._gathered[context] = self._gathered[context].strip(), ""
            before = self._speaking.get(context)
            self._speaking[context] = asyncio.create_task(self._speak(context, text, before, ends=ends))

    def stop(self) -> None:
        """Say nothing more."""
        for task in self._speaking.values():
            task.cancel()

    async def _speak(self, context: str, text: str, before: asyncio.Task[None] | None, *, ends: bool) -> None:
        if before is not None:
            await before
        if text:
            await asyncio.sleep(FIRST_AUDIO_S)
            for piece in spoken(text, self._voice):
                await self._socket.send_str(piece.replace("CONTEXT", context))
        if ends:
            self._speaking.pop(context, None)
            await self._socket.send_str(json.dumps({"isFinal": True, "contextId": context}))


def spoken(text: str, voice: str) -> Iterator[str]:
    """ElevenLabs' messages for a text, with the placeholder CONTEXT."""
    duration_ms = len(text) * CHARACTER_MS
    piece = base64.b64encode(tone(PITCHES[voice], _PIECE_MS)).decode()
    for start in range(0, duration_ms, _PIECE_MS):
        length = min(_PIECE_MS, duration_ms - start)
        chars = text[-(-start // CHARACTER_MS) : -(-(start + length) // CHARACTER_MS)]
        alignment = {
            "chars": list(chars),
            "charStartTimesMs": [index * CHARACTER_MS for index in range(len(chars))],
            "charDurationsMs": [CHARACTER_MS] * len(chars),
        }
        audio = piece if length == _PIECE_MS else base64.b64encode(tone(PITCHES[voice], length)).decode()
        yield json.dumps(
            {"audio": audio, "alignment": alignment, "normalizedAlignment": alignment, "contextId": "CONTEXT"}
        )


def tone(pitch_hz: int, ms: int) -> bytes:
    """A sine as 16-bit PCM at 8,000 Hz; whole periods, so that pieces join without a step."""
    step = 2 * math.pi * pitch_hz / 8000
    return struct.pack(f"<{ms * 8}h", *(round(9000 * math.sin(step * at)) for at in range(ms * 8)))


async def converse(request: web.Request) -> web.WebSocketResponse:
    """ElevenLabs' `multi-stream-input`."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    voice = Voice(socket, request.match_info["voice"])
    async for message in socket:
        content = json.loads(message.data)
        if content.get("close_socket"):
            break
        await voice.take(content)
    voice.stop()
    await socket.close()
    return socket


async def synthesise(request: web.Request) -> web.Response:
    """ElevenLabs' `text-to-speech` over HTTP, for greetings: raw PCM."""
    text = (await request.json())["text"]
    return web.Response(body=tone(PITCHES[request.match_info["voice"]], len(text) * CHARACTER_MS))


async def complete(request: web.Request) -> web.StreamResponse:
    """OpenAI's streamed chat completion."""
    body = await request.json()
    delta = _call(body, request.app[CONVERSATION])
    deltas = [{"tool_calls": [delta]}] if delta else [{"content": f"{word} "} for word in ANSWER.split()]
    await asyncio.sleep(FIRST_TOKEN_S)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    head = {"id": "bench", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
    for each in ({"role": "assistant", "content": ""}, *deltas, {}):
        reason = None if each else ("tool_calls" if delta else "stop")
        choice = {"index": 0, "delta": each, "finish_reason": reason}
        await response.write(f"data: {json.dumps({**head, 'choices': [choice]})}\n\n".encode())
        await asyncio.sleep(_TOKEN_S)
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def _call(body: dict[str, Any], conversation: Conversation) -> dict[str, Any] | None:
    """The call of the routing function, when the caller asked for it and it was not made yet."""
    said = [message for message in body["messages"] if message["role"] in ("user", "tool")]
    if not said or said[-1]["role"] == "tool":
        return None
    agent = conversation.route_of(str(said[-1]["content"]))
    functions = [tool["function"] for tool in body.get("tools") or ()]
    name = next((each["name"] for each in functions if agent and _offers(each, agent)), None)
    if name is None:
        return None
    function = {"name": name, "arguments": json.dumps({"agent": agent})}
    return {"index": 0, "id": "call_bench", "type": "function", "function": function}


def _offers(function: dict[str, Any], agent: str) -> bool:
    """Whether a function routes to the agent; an agent is not offered itself."""
    allowed = function["parameters"]["properties"].get("agent", {}).get("enum")
    return bool(function["name"].startswith("route") and (allowed is None or agent in allowed))


async def serve(conversation: Conversation) -> None:
    """Serve until standard input ends."""
    application = web.Application()
    application[CONVERSATION] = conversation
    application.router.add_get("/v1/listen", listen)
    application.router.add_get("/v1/text-to-speech/{voice}/multi-stream-input", converse)
    application.router.add_post("/v1/text-to-speech/{voice}", synthesise)
    application.router.add_post("/v1/text-to-speech/{voice}/stream", synthesise)
    application.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(json.dumps({"url": f"http://{host}:{port}"}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


def main() -> None:
    """Serve the conversation that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m bench.light_vendors", description=__doc__)
    parser.add_argument("--conversation", choices=CONVERSATIONS, default="density")
    asyncio.run(serve(CONVERSATIONS[parser.parse_args().conversation]))


if __name__ == "__main__":
    main()
