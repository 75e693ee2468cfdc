"""Callers that cost little CPU time: they send prepared µ-law frames and note when audio arrives.

A caller waits for the greeting, says the utterances of a conversation one after another, and waits for each
answer, until it is told to hang up or has said all. Nothing is decoded: a voice is known by its pitch, which
is counted in the sign bits of one µ-law message.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bench.conversations import PITCHES, Conversation
from voicebot.sandbox.audio.mulaw import encode, samples_of
from voicebot.sandbox.carrier import CarrierSettings
from voicebot.sandbox.carrier.model import new_sid
from voicebot.sandbox.carrier.twiml import Stream, parse
from voicebot.sandbox.carrier.webhooks import Webhooks, call_params
from voicebot.sandbox.speech.synthesis import synthesize

FRAME_S = 0.02
LATE_S = 0.02
"""Audio that arrives this much after the caller's buffer ran empty counts as late."""

_ANSWER_TIMEOUT_S = 10.0
_PAUSE_S = 0.8
_SAME_ANSWER_S = 0.5
_SILENCE = base64.b64encode(b"\xff" * 160).decode()
_VOICES = tuple(PITCHES)
_LEAST_SAMPLES = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class LightFormat:
    """What differs between the messages of carriers.

    Attributes:
        sid_key: the name of the stream's id.
        frames: how many frames of 20 ms a message of the caller has.
        to_wire: turns frames of the caller, each base64 of µ-law, into the base64 of a message.
        from_wire: turns audio of the stream into µ-law.
        sample_bytes: of the stream's encoding.
        pitch_message: the message of an answer in which its voice is known.
        stop: the content of `stop` when the caller hangs up.
    """

    sid_key: str = "streamSid"
    frames: int = 1
    to_wire: Callable[[Sequence[str]], str] = "".join
    from_wire: Callable[[bytes], bytes] = bytes
    sample_bytes: int = 1
    pitch_message: int = 3
    stop: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Answer:
    """What followed an utterance; times in seconds."""

    question: str
    asked_s: float | None = None
    after_s: float | None = None
    voice: str | None = None


@dataclass(slots=True)
class Sound:
    """Audio in one voice, without a pause; times in seconds, when the caller hears it."""

    voice: str
    begins_s: float
    ends_s: float


@dataclass(slots=True)
class Figures:
    """What one call noted."""

    webhook_s: float = 0.0
    first_audio_s: float | None = None
    answers: list[Answer] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)
    """What was heard, for a conversation with an end."""
    audio_s: float = 0.0
    late_s: float = 0.0
    gaps: int = 0
    worst_gap_s: float = 0.0
    longest_silence_s: float = 0.0
    """The longest time without audio since the first audio: a stall, if the agent speaks all the time."""
    tick_late_s: float = 0.0
    lost: bool = False


def spoken_frames(conversation: Conversation) -> dict[str, list[str]]:
    """The base64 payloads of every utterance, 20 ms each, as a voice that a VAD recognises."""
    frames = {}
    for text in set(conversation.utterances):
        code = encode(samples_of(synthesize(text, "caller-1")))
        parts = [code[at : at + 160].ljust(160, b"\xff") for at in range(0, len(code), 160)]
        frames[text] = [base64.b64encode(part).decode() for part in parts]
    return frames


class LightCall:
    """One call on an open media socket."""

    def __init__(
        self,
        socket: ClientConnection,
        stream_sid: str,
        conversation: Conversation,
        frames: dict[str, list[str]],
        wire: LightFormat | None = None,
    ) -> None:
        self.figures = Figures()
        self._format = wire or LightFormat()
        self._socket, self._sid, self._frames = socket, stream_sid, frames
        self._loop = asyncio.get_running_loop()
        utterances = conversation.utterances
        more = itertools.repeat(utterances[-1]) if conversation.repeats else ()
        self._utterances = itertools.chain(utterances, more)
        self._keeps_sounds = not conversation.repeats
        self._saying: list[str] = []
        self._plays_until = self._quiet_from = 0.0
        self._asked_at: float | None = None
        self._started_at = 0.0
        self._messages = 0
        self._marks: list[tuple[float, str]] = []
        self.hangs_up = asyncio.Event()

    async def run(self) -> None:
        """Converse until `hangs_up` is set, then hang up."""
        self._started_at = self._loop.time()
        tasks = [asyncio.create_task(each) for each in (self._send_frames(), self._receive())]
        ending = asyncio.create_task(self.hangs_up.wait())
        await asyncio.wait([*tasks, ending], return_when=asyncio.FIRST_COMPLETED)
        self.figures.lost = not self.hangs_up.is_set()
        for task in (*tasks, ending):
            task.cancel()
        await asyncio.gather(*tasks, ending, return_exceptions=True)
        if not self.figures.lost:
            stop = {"event": "stop", self._format.sid_key: self._sid, "stop": dict(self._format.stop)}
            await self._socket.send(json.dumps(stop))
        await self._socket.close()

    def silent_s(self) -> float:
        """How long the caller has heard nothing; negative while there is audio to play."""
        return self._loop.time() - self._plays_until

    async def _send_frames(self) -> None:
        due, unsent, key = self._loop.time(), list[str](), self._format.sid_key
        for number in itertools.count(1):
            unsent.append(self._next_payload(self._loop.time()))
            if len(unsent) == self._format.frames:
                payload = self._format.to_wire(unsent)
                unsent.clear()
                await self._socket.send(
                    f'{{"event":"media","sequenceNumber":"{number}","{key}":"{self._sid}","media":{{"track":'
                    f'"inbound","chunk":"{number}","timestamp":"{number * 20}","payload":"{payload}"}}}}'
                )
            now = self._loop.time()
            while self._marks and self._marks[0][0] <= now:
                name = self._marks.pop(0)[1]
                await self._socket.send(json.dumps({"event": "mark", key: self._sid, "mark": {"name": name}}))
            due += FRAME_S
            self.figures.tick_late_s = max(self.figures.tick_late_s, now - due)
            await asyncio.sleep(max(0.0, due - now))

    async def _receive(self) -> None:
        try:
            async for message in self._socket:
                content = json.loads(message)
                now = self._loop.time()
                if content["event"] == "media":
                    self._play(content["media"]["payload"], now)
                elif content["event"] == "mark":
                    self._marks.append((max(now, self._plays_until), content["mark"]["name"]))
                elif content["event"] == "clear":
                    self._plays_until = now
                    self._marks = [(now, name) for _, name in self._marks]
        except ConnectionClosed:
            return

    def _play(self, payload: str, now: float) -> None:
        figures, gap = self.figures, now - self._plays_until
        seconds = len(payload) * 3 / 4 / 8000 / self._format.sample_bytes
        if figures.first_audio_s is not None:
            figures.longest_silence_s = max(figures.longest_silence_s, gap)
        figures.audio_s += seconds
        if gap > _SAME_ANSWER_S:
            self._messages = 0
        elif gap > LATE_S:
            figures.gaps += 1
            figures.late_s += seconds
            figures.worst_gap_s = max(figures.worst_gap_s, gap)
        self._messages += 1
        begins, self._plays_until = (
            max(now, self._plays_until),
            max(now, self._plays_until) + seconds,
        )
        if self._keeps_sounds:
            self._keep_sound(self._format.from_wire(base64.b64decode(payload)), begins)
        if figures.first_audio_s is None:
            figures.first_audio_s = now - self._started_at
        if self._asked_at is not None:
            figures.answers[-1].asked_s = self._asked_at
            figures.answers[-1].after_s = now - self._asked_at
            self._asked_at = None
        if self._messages == self._format.pitch_message and figures.answers:
            figures.answers[-1].voice = voice_of(self._format.from_wire(base64.b64decode(payload)))

    def _keep_sound(self, code: bytes, begins_s: float) -> None:
        """Note a message; the last one of an utterance is padded with silence."""
        loud = code.rstrip(b"\xff")
        sounds, ends_s = self.figures.sounds, begins_s + len(loud) / 8000
        before = sounds[-1] if sounds else None
        if len(loud) < _LEAST_SAMPLES:  # too short to know the voice by
            voice = before.voice if before is not None else None
        else:
            voice = voice_of(loud)
        if before is not None and voice == before.voice and begins_s - before.ends_s < LATE_S:
            before.ends_s = ends_s
        elif voice is not None:
            sounds.append(Sound(voice, begins_s, ends_s))

    def _next_payload(self, now: float) -> str:
        """The next 20 ms of the caller; an utterance begins when nothing was heard for a while."""
        if self._asked_at is not None and now > self._asked_at + _ANSWER_TIMEOUT_S:
            self._asked_at = None
        if self._saying:
            payload = self._saying.pop()
            if not self._saying:
                self._asked_at = now
            return payload
        greeted = self.figures.first_audio_s is not None
        if greeted and self._asked_at is None and now > max(self._plays_until, self._quiet_from) + _PAUSE_S:
            text = next(self._utterances, None)
            if text is None:
                self.hangs_up.set()
                return _SILENCE
            self._saying = self._frames[text][::-1]
            self.figures.answers.append(Answer(text))
            self._quiet_from = now + len(self._saying) * FRAME_S
        return _SILENCE


def voice_of(code: bytes) -> str:
    """The voice whose pitch is nearest to that of a µ-law message."""
    signs = np.frombuffer(code, dtype=np.uint8) >> 7
    pitch_hz = np.count_nonzero(np.diff(signs)) / 2 / (len(code) / 8000)
    return min(_VOICES, key=lambda voice: abs(PITCHES[voice] - pitch_hz))


class Carrier:
    """Places light calls at a server, with signed webhooks, or at a bare bot's socket without."""

    def __init__(
        self,
        settings: CarrierSettings,
        number: str,
        conversation: Conversation,
        *,
        bare_url: str | None = None,
    ) -> None:
        self._settings, self._number, self._bare_url = settings, number, bare_url
        self._webhooks = Webhooks(settings)
        self._conversation = conversation
        self._frames = spoken_frames(conversation)

    async def place(self, index: int) -> LightCall:
        """Call, open the media socket, and send `start`."""
        sid, loop = new_sid("CA"), asyncio.get_running_loop()
        started = loop.time()
        stream = None if self._bare_url else await self._answer(sid, index)
        webhook_s = loop.time() - started
        address, headers, parameters = self._bare_url or "", dict[str, str](), dict[str, str]()
        if stream is not None:
            parameters = dict(stream.parameters)
            address, forwarded = self._webhooks.reach(stream.url)
            headers = {"X-Twilio-Signature": self._webhooks.signature(stream.url, {}), **forwarded}
        socket = await connect(
            address, additional_headers=headers, compression=None, ping_interval=None, max_size=None
        )
        stream_sid = new_sid("MZ")
        await socket.send(json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
        start = {
            "streamSid": stream_sid, "accountSid": self._settings.account_sid, "callSid": sid,
            "tracks": ["inbound"], "customParameters": parameters,
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        }  # fmt: skip
        await socket.send(json.dumps({"event": "start", "streamSid": stream_sid, "start": start}))
        call = LightCall(socket, stream_sid, self._conversation, self._frames)
        call.figures.webhook_s = webhook_s
        return call

    async def close(self) -> None:
        """Close the connections of the webhooks."""
        await self._webhooks.aclose()

    async def _answer(self, sid: str, index: int) -> Stream:
        params = call_params(
            sid=sid,
            account_sid=self._settings.account_sid,
            from_=f"+{14155550200 + index}",
            to=self._number,
            status="ringing",
            direction="inbound",
        )
        answer = await self._webhooks.send(self._settings.public_url + self._settings.voice_path, params)
        verbs = parse(answer.body)
        return next(verb for verb in verbs if isinstance(verb, Stream))


async def converse(
    carrier: Carrier, count: int, ramp_s: float, running: set[asyncio.Task[None]], first: int = 0
) -> Sequence[LightCall]:
    """Place `count` calls spread over `ramp_s` seconds; their conversations are tasks in `running`."""
    placing = []
    for index in range(count):
        placing.append(asyncio.create_task(carrier.place(first + index)))
        placing[-1].add_done_callback(lambda placed: running.add(asyncio.create_task(placed.result().run())))
        await asyncio.sleep(ramp_s / count)
    return await asyncio.gather(*placing)
