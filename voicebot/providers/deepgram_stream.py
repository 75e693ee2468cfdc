"""One live transcription of Deepgram over its WebSocket, as a pipecat service.

pipecat's own ``DeepgramSTTService`` uses the vendor's SDK, which compresses every message of audio, makes a
TLS context and an HTTP client for each service, and validates every answer with pydantic: a third of the CPU
time of a call (docs/decisions/0017-providers.md). This service never reconnects: when its socket is lost it
becomes unusable, and the call makes a new one (``voicebot.call.audio.connections``).

Protocol: https://developers.deepgram.com/reference/speech-to-text/listen-streaming
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from loguru import logger
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterimTranscriptionFrame,
    SystemFrame,
    TranscriptionFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
from pipecat.services.settings import STTSettings
from pipecat.utils.time import time_now_iso8601
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from voicebot.providers.speech_input import DirectStt
from voicebot.providers.websocket import connection_options

KEEP_ALIVE_S = 5.0
"""Deepgram closes a stream that sends neither audio nor KeepAlive for 10 s (NET-0001)."""

CLOSE_TIMEOUT_S = 0.5
TTFS_P99_S = 0.35
"""Time from the end of speech to the final transcript, in seconds, as pipecat measured it for Deepgram."""


@dataclass
class NoWordsFrame(SystemFrame):
    """The vendor found no words in the audio: it works, and no transcript is to be expected."""


class DeepgramStream(DirectStt):
    """Sends 16-bit mono PCM at the rate of its pipeline, and pushes interim and final transcripts."""

    def __init__(self, url: str, api_key: str, query: Sequence[tuple[str, str]]) -> None:
        """Not connected yet. The first service of a process reads the root certificates.

        Args:
            url: the vendor's address, ``ws://`` or ``wss://``.
            api_key: sent in the Authorization header.
            query: the parameters of the stream.
        """
        super().__init__(
            audio_passthrough=False,
            ttfs_p99_latency=TTFS_P99_S,
            settings=STTSettings(model=dict(query).get("model"), language=None),
        )
        self._url = f"{url}/v1/listen"
        self._query = query
        self._options = connection_options(url)
        self._api_key = api_key
        self._socket: ClientConnection | None = None
        self._tasks: list[asyncio.Task[Any]] = []

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        """Connect; a failure leaves the service unusable."""
        await super().setup(setup)
        audio = [("encoding", "linear16"), ("sample_rate", str(self.sample_rate)), ("channels", "1")]
        try:
            self._socket = await connect(
                f"{self._url}?{urlencode([*self._query, *audio])}",
                additional_headers={"Authorization": f"Token {self._api_key}"},
                close_timeout=CLOSE_TIMEOUT_S,
                **self._options,
            )
        except (OSError, TimeoutError, WebSocketException) as error:
            await self._fail("refused the connection", error)
            return
        self._tasks = [self.create_task(self._receive(self._socket)), self.create_task(self._keep_alive())]

    async def stop(self, frame: EndFrame) -> None:
        """Close the stream at the end of the pipeline."""
        await super().stop(frame)
        await self._close()

    async def cancel(self, frame: CancelFrame) -> None:
        """Close the stream when the pipeline is cancelled."""
        await super().cancel(frame)
        await self._close()

    async def cleanup(self) -> None:
        """Close the stream, if it is still open."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self._close()

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """Send audio of a frame."""
        await self.send_audio(audio)
        yield None

    async def send_audio(self, audio: bytes) -> None:
        """Send audio; the transcripts arrive independently of it."""
        await self._send(audio)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Pass frames on, and ask for the transcript when a VAD of ours heard the end of speech."""
        await super().process_frame(frame, direction)
        if isinstance(frame, VADUserStoppedSpeakingFrame):
            self.request_finalize()  # type: ignore[no-untyped-call]
            await self._send('{"type":"Finalize"}')

    async def _send(self, message: str | bytes) -> None:
        if self._socket is not None:
            with suppress(ConnectionClosed):  # `_receive` reports it
                await self._socket.send(message)

    async def _receive(self, socket: ClientConnection) -> None:
        try:
            async for message in socket:
                await self._take(json.loads(message))
        except ConnectionClosed as error:
            await self._fail("closed the connection", error)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            await self._fail("sent a message that cannot be read", error)
        else:
            await self._fail("ended the stream", None)

    async def _take(self, message: dict[str, Any]) -> None:
        if message["type"] != "Results":
            return
        alternatives = message["channel"]["alternatives"]
        transcript = alternatives[0]["transcript"] if alternatives else ""
        is_final, from_finalize = message["is_final"], bool(message.get("from_finalize"))
        if from_finalize:
            self.confirm_finalize()  # type: ignore[no-untyped-call]
        if not transcript:
            if is_final:
                await self.push_frame(NoWordsFrame())
            return
        frame = TranscriptionFrame if is_final else InterimTranscriptionFrame
        await self.push_frame(frame(transcript, "", time_now_iso8601()))

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(KEEP_ALIVE_S)
            await self._send('{"type":"KeepAlive"}')

    async def _fail(self, what: str, error: Exception | None) -> None:
        self._socket = None
        logger.debug("{}: Deepgram {}: {}", self, what, type(error).__name__)
        await self.push_error(f"Deepgram {what}", exception=error, force_treat_as_permanent=True)

    async def _close(self) -> None:
        socket, self._socket = self._socket, None
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            await self.cancel_task(task)
        if socket is not None:
            with suppress(ConnectionClosed):
                await socket.send('{"type":"CloseStream"}')
            await socket.close()
