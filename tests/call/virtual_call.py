"""A telephone call in virtual time: the session and pipecat's pipeline are real, what is outside is scripted.

    with virtual_time() as loop:
        call = VirtualCall(loop, desk={...}, targets={"billing": {...}})
        call.run(5)                                  # 5 s pass
        call.plan(Plan(text="We are open."))         # what the model answers next
        call.say("When are you open?")
        call.run(10)
        call.heard(), call.played, call.longest_silence_ms()

The carrier plays audio in real (virtual) time, and its marks return when it has played. A voice speaks
`CHARACTER_MS` a character and reports its words as a vendor's service does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from pipecat.frames.frames import (
    Frame,
    InterimTranscriptionFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.filters.identity_filter import IdentityFilter
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService

from db.events import EventRecord
from db.ids import new_id
from db.revisions import TemplateSnapshot
from db.routes import RouteRecord
from db.utterances import UtteranceRecord
from handlers.context import HandoffStatus
from telephony.media import MarkEcho, MediaClosed, MediaStart
from telephony.output import MarkFrame
from telephony.playout import Playout, PlayoutWaiter
from telephony.transport import CallTransport
from templates.model import TemplateContent
from tests.call.virtual_time import VirtualLoop
from tests.context_model import ContextModel
from voicebot.call.agents import answering_agent
from voicebot.call.dependencies import CallDependencies, CallFact, Entry
from voicebot.call.failure_texts import failure_texts
from voicebot.call.hangup import End
from voicebot.call.resume import ResumeState
from voicebot.call.session import Session
from voicebot.call.text.answers import Answers, PreparedHttp
from voicebot.clock import SystemClock
from voicebot.providers.pace import Pace
from voicebot.providers.provider import SpokenText
from voicebot.providers.service_spec import SAMPLE_RATE, OnRequest, ServiceSpec, connected_at_once, made
from voicebot.providers.speech_input import SpeechInput
from voicebot.providers.websocket import TTS_QUIET_S

CHARACTER_MS = 40
FILLERS = ("One moment.", "Still looking.")
UNKNOWN = (*FILLERS, failure_texts("en").moment)
TOKEN_S = 0.05
FIRST_AUDIO_S = 0.1
LISTENER_SILENCE_MS = 200
FRAME_S = 0.02
ACCOUNT = new_id()

ModelFault = Literal["none", "error", "empty", "hang"]
VoiceFault = Literal["none", "swallow", "silent", "drop", "break", "stall"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One answer of the model: text, functions (name and arguments), its duration, and what goes wrong."""

    text: str = ""
    calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    delay_s: float = 0.1
    fault: ModelFault = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request to a model: whose model it was, its instructions, its functions, and the messages."""

    agent: str
    role: str
    functions: Sequence[str]
    messages: Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class Played:
    """Audio that the caller heard without a pause, from and to in ms."""

    voice: str
    start_ms: float
    end_ms: float


@dataclass(slots=True)
class Script:
    """What the vendors of a call do."""

    plans: deque[Plan] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    voice_faults: deque[VoiceFault] = field(default_factory=deque)
    context: LLMContext | None = None
    default: Callable[[Asked], Plan] = lambda _: Plan(text="I see.")


class ScriptedModel(ContextModel):
    """The model of one agent."""

    def __init__(self, agent: str, script: Script) -> None:
        super().__init__()
        self._agent = agent
        self._script = script

    async def respond(self, context: LLMContext) -> None:
        messages = [cast("dict[str, Any]", message).copy() for message in context.messages]
        functions = [tool.name for tool in context.tools.standard_tools] if context.tools else []
        asked = Asked(agent=self._agent, role=self.role, functions=functions, messages=messages)
        self._script.asked.append(asked)
        self._script.context = context
        plan = self._script.plans.popleft() if self._script.plans else self._script.default(asked)
        await self.push_frame(LLMFullResponseStartFrame())
        try:
            await asyncio.sleep(5.0 if plan.fault == "hang" else plan.delay_s)
            if plan.fault in ("error", "hang"):
                await self.push_error("the scripted model failed", exception=TimeoutError("scripted"))
            elif plan.fault == "none":
                await self._answer(plan, context)
        finally:
            await self.push_frame(LLMFullResponseEndFrame())

    async def _answer(self, plan: Plan, context: LLMContext) -> None:
        for word in plan.text.split(" "):
            if word:
                await self.push_frame(LLMTextFrame(f"{word} "))
                await asyncio.sleep(TOKEN_S)
        await self.call_functions(plan.calls, context)


class ScriptedVoice(TTSService):
    """A voice that speaks at a known pace; a fault applies to one text."""

    def __init__(self, voice: str, script: Script, language: str, first_audio_s: float) -> None:
        super().__init__(
            push_start_frame=True,
            push_stop_frames=True,
            stop_frame_timeout_s=TTS_QUIET_S,
            push_text_frames=False,
            sample_rate=SAMPLE_RATE,
            settings=TTSSettings(model=None, voice=voice, language=language),
        )
        self._voice = voice
        self._script = script
        self._first_audio_s = first_audio_s
        self._spoken_s: dict[str, float] = {}

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        fault = self._script.voice_faults.popleft() if self._script.voice_faults else "none"
        await asyncio.sleep(self._first_audio_s)
        text = text.strip()
        spoken = "" if fault in ("swallow", "silent", "break") else text
        if fault in ("drop", "stall"):
            spoken = text[: len(text) // 2]
        begin_s, at = self._spoken_s.get(context_id, 0.0), 0
        for word in spoken.split():
            audio = _tone(self._voice, (len(word) + 1) * CHARACTER_MS)
            yield TTSAudioRawFrame(audio, SAMPLE_RATE, 1, context_id=context_id)
            await self.add_word_timestamps([(word, begin_s + at * CHARACTER_MS / 1000)], context_id)
            at += len(word) + 1
        self._spoken_s[context_id] = begin_s + at * CHARACTER_MS / 1000
        if fault in ("drop", "break"):
            await self.push_error("the scripted voice dropped", exception=ConnectionError("scripted"))
        if fault in ("drop", "break", "stall", "swallow"):
            await asyncio.Event().wait()


BYTES_PER_MS = SAMPLE_RATE // 1000 * 2


def _tone(voice: str, ms: float) -> bytes:
    """Audio that is not silent and by which the voice can be known."""
    return bytes([sum(voice.encode()) % 200 + 1, 1]) * int(ms * BYTES_PER_MS / 2)


class ScriptedListener(SpeechInput):
    """An STT that is given the caller's audio and finds no words in it: the stream brings the turns."""

    def __init__(self) -> None:
        super().__init__(cast(Any, None), endpointing_ms=LISTENER_SILENCE_MS)

    def write(self, audio: bytes) -> None:
        """Take audio of the caller."""


class ScriptedServices:
    """Implements ``ServiceFactory``."""

    def __init__(self, script: Script, connects_s: float, first_audio_s: float, stt_from_s: float) -> None:
        self._script = script
        self.connects_s = connects_s
        self._first_audio_s = first_audio_s
        self.stt_from_s = stt_from_s
        """The time of the loop from which an STT can be connected; an attempt before waits for it."""
        self.listeners: list[ScriptedListener] = []
        """The STT services that were connected."""
        self.pace = Pace()
        self.voices: list[ScriptedVoice] = []
        """The voices that were connected."""

    def stt(self, content: TemplateContent) -> ServiceSpec:
        """Nothing to transcribe: the stream brings turns."""

        async def make() -> Sequence[FrameProcessor]:
            await asyncio.sleep(self.stt_from_s - asyncio.get_running_loop().time())
            self.listeners.append(ScriptedListener())
            return [self.listeners[-1], IdentityFilter()]

        return ServiceSpec(key=f"stt {content.stt.provider}", make=make, connected=connected_at_once)

    def llm(self, content: TemplateContent, *_: Any) -> tuple[ServiceSpec, LLMService[Any]]:
        """The agent's model."""
        service = ScriptedModel(content.name, self._script)
        return ServiceSpec(
            key=f"llm {content.name}", make=made(service), connected=connected_at_once
        ), service

    def tts(self, content: TemplateContent, on_request: OnRequest) -> ServiceSpec:
        """The agent's voice."""
        voice = content.tts.voice_id

        async def make() -> Sequence[FrameProcessor]:
            service = ScriptedVoice(voice, self._script, content.language, self._first_audio_s)

            async def on_tts_request(_: FrameProcessor, context_id: str, text: str) -> None:
                await on_request(context_id, text)

            service.add_event_handler("on_tts_request", on_tts_request)
            await asyncio.sleep(self.connects_s)
            self.voices.append(service)
            return [service]

        return ServiceSpec(key=f"tts {voice}", make=make, connected=connected_at_once, pace=self.pace)


class VirtualMedia:
    """A ``telephony.carrier.MediaStream`` whose carrier plays in real time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._closed: Callable[[MediaClosed], None] | None = None
        self._mark_observers: list[Callable[[MarkEcho], None]] = []
        self._marks: deque[tuple[str, asyncio.TimerHandle]] = deque()
        self._dtmf_observers: list[Callable[[str], None]] = []
        self._audio_observers: list[Callable[[bytes], None]] = []
        self.is_open = True
        self._queued_until = 0.0
        self.played: list[Played] = []
        self.sample_rate = SAMPLE_RATE
        self.playout = Playout()
        self._waiter = PlayoutWaiter(self.playout, self.now_ms)
        self.start = MediaStart(stream_id="s", carrier_call_id="c", account_ref="", token="", parameters={})
        self.transport = CallTransport(_Wire(self), _listen)
        self.source = self.transport.input()

    def now_ms(self) -> float:
        """Virtual milliseconds."""
        return self._loop.time() * 1000.0

    def mark_frame(self, name: str) -> Frame:
        """A frame that returns when the audio before it has been played."""
        return MarkFrame(mark=name)

    async def wait_all_heard(self, timeout_s: float) -> bool:
        """Wait until everything was played."""
        return await self._waiter.wait_all_heard(timeout_s)

    def on_mark(self, observer: Callable[[MarkEcho], None]) -> None:
        """Call ``observer`` with every mark."""
        self._mark_observers.append(observer)

    def on_audio(self, observer: Callable[[bytes], None]) -> None:
        """Call ``observer`` with the caller's audio; turns are scripted apart from it."""
        self._audio_observers.append(observer)

    def on_dtmf(self, observer: Callable[[str], None]) -> None:
        """Call ``observer`` with every key."""
        self._dtmf_observers.append(observer)

    def on_stop(self, observer: Callable[[], None]) -> None:
        """The end is never announced."""

    def on_closed(self, observer: Callable[[MediaClosed], None]) -> None:
        """Call ``observer`` when the stream is closed."""
        self._closed = observer

    async def refuse(self, close_code: int, reason: str) -> None:
        """Close the stream."""
        self.close_by("us")

    async def close(self) -> None:
        """Close the stream."""
        self.close_by("us")

    def close_by(self, by: Literal["us", "carrier"], code: int = 1000) -> None:
        """One side closes the stream."""
        if self.is_open:
            self.is_open = False
            self.clear()
            self.playout.ended(self.now_ms())
            self._waiter.changed()
            if self._closed is not None:
                self._closed(MediaClosed(by=by, code=code, reason="", announced=by == "carrier"))

    def ends_s(self) -> float:
        """In how many s all that was sent will have been played."""
        return max(0.0, self._queued_until - self.now_ms()) / 1000

    def press(self, digit: str) -> None:
        """The caller presses a key."""
        for observer in self._dtmf_observers:
            observer(digit)

    def hear(self, audio: bytes) -> None:
        """The carrier sends audio of the caller."""
        for observer in self._audio_observers:
            observer(audio)

    # ------------------------------------------------------------------------------------- inside

    def audio(self, audio: bytes) -> None:
        """The carrier is sent audio."""
        now, duration_ms = self.now_ms(), len(audio) / BYTES_PER_MS
        begin = max(now, self._queued_until)
        self._queued_until = begin + duration_ms
        self.playout.audio_sent(duration_ms, now)
        voice = str(audio[0])
        last = self.played[-1] if self.played else None
        if last is not None and last.voice == voice and begin - last.end_ms < 1.0:
            last.end_ms = self._queued_until
        else:
            self.played.append(Played(voice, begin, self._queued_until))

    def mark(self, name: str) -> None:
        """The carrier is sent a mark."""
        self.playout.mark_sent(name, self.now_ms())
        wait_s = max(0.0, self._queued_until - self.now_ms()) / 1000
        self._marks.append((name, self._loop.call_later(wait_s, self._echo, name)))

    def clear(self) -> None:
        """The carrier is told to drop what it has not played."""
        now = self.now_ms()
        self.playout.cleared(now)
        self._queued_until = min(self._queued_until, now)
        while self.played and self.played[-1].start_ms >= now:
            self.played.pop()
        if self.played:
            self.played[-1].end_ms = min(self.played[-1].end_ms, now)
        marks, self._marks = self._marks, deque()
        for name, timer in marks:
            timer.cancel()
            self.playout.mark_echoed(name, now)
        self._waiter.changed()

    def _echo(self, name: str) -> None:
        self._marks = deque(mark for mark in self._marks if mark[0] != name)
        self.playout.mark_echoed(name, self.now_ms())
        self._waiter.changed()
        for observer in self._mark_observers:
            observer(MarkEcho(name=name, outcome="played"))


async def _listen() -> None:
    """The carrier sends nothing."""
    await asyncio.Event().wait()


class _Wire:
    """The carrier's side of the socket."""

    def __init__(self, media: VirtualMedia) -> None:
        self._media = media

    @property
    def is_open(self) -> bool:
        return self._media.is_open

    async def send_audio(self, pcm: bytes) -> None:
        self._media.audio(pcm)

    async def send_mark(self, name: str) -> None:
        self._media.mark(name)

    async def send_clear(self) -> None:
        self._media.clear()

    async def close(self) -> None:
        self._media.close_by("us")


class _NoWriter:
    def write(self, entry: Entry) -> None:
        return None

    async def flushed(self, timeout_s: float) -> bool:
        return True


class _NoCarrier:
    async def hang_up(self, carrier_call_id: str) -> None:
        return None


class _NoGreetings:
    """Implements ``ReadyGreetings``: nothing is synthesised ahead of time, or everything is."""

    def __init__(self, *, ready: bool) -> None:
        self._ready = ready

    def ready(self, spoken: SpokenText) -> bytes | None:
        duration_ms = (len(spoken.text) + 1) * CHARACTER_MS
        return _tone(spoken.content.tts.voice_id, duration_ms) if self._ready else None

    async def prepare(self, spoken: SpokenText) -> bytes:
        return b""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    id: UUID
    account_id: UUID
    lead_id: UUID
    template_id: UUID
    handovers: int = 0


class VirtualCall:
    """A call in virtual time; it has begun when the constructor returns."""

    def __init__(
        self,
        loop: VirtualLoop,
        *,
        desk: Mapping[str, Any],
        targets: Mapping[str, Mapping[str, Any]] | None = None,
        answers: Answers | None = None,
        ready: bool = True,
        announce: str | None = None,
        connects_s: float = 0.0,
        stt_connects_s: float = 0.0,
        first_audio_s: float = FIRST_AUDIO_S,
        usual_pace_ms: float | None = None,
        dial: Callable[[str, str], Awaitable[UUID | None]] | None = None,
        transfer: Callable[[str], Awaitable[str | None]] | None = None,
        past: ResumeState | None = None,
        voice_faults: Sequence[VoiceFault] = (),
        has_phone: bool = True,
    ) -> None:
        """Begin a call with an orchestrator that routes to the targets.

        Args:
            loop: the loop in virtual time.
            desk: the orchestrator's template.
            targets: the templates of its targets by the names of the routes.
            answers: prepared answers of HTTP functions.
            ready: whether greetings and fillers are synthesised ahead of time.
            announce: what is announced before each route.
            connects_s: how long a voice takes to connect, in s.
            stt_connects_s: after how much of the call an STT can be connected, in s.
            first_audio_s: how long a voice takes to make the first audio of a text, in s.
            usual_pace_ms: how long the slowest of the latest texts took in other calls, in ms.
            dial: calls a destination that is to accept the caller.
            transfer: has the carrier dial a number for the caller.
            past: what happened before the call's stream was lost.
            voice_faults: what goes wrong with the first texts that are spoken.
            has_phone: whether the caller's number is known.
        """
        self._loop = loop
        self.script = Script(voice_faults=deque(voice_faults))
        self.media = VirtualMedia(loop)
        self.facts: list[CallFact] = []
        self._turn_ended_ms = self.media.now_ms()
        self._is_speaking = False
        self._sounding: asyncio.Task[None] | None = None
        targets = targets or {}
        self.ids = {name: new_id() for name in ("desk", *targets)}
        documents: dict[UUID, dict[str, Any]] = {
            self.ids[name]: {"name": name, "tts": {"voice_id": name}, **document}
            for name, document in targets.items()
        }
        routes = [
            {"name": name, "template_id": str(self.ids[name]), "when": name, "announce": announce}
            for name in targets
        ]
        desk_document = {
            "name": "desk", "kind": "orchestrator", "tts": {"voice_id": "desk"}, "routes": routes,
            "prompt": "You are the desk.", "greeting": {"text": "Acme, hello."}, **desk,
        }  # fmt: skip
        snapshot = _snapshot(self.ids["desk"], desk_document)
        answering = answering_agent(snapshot)
        self.services = ScriptedServices(self.script, connects_s, first_audio_s, loop.time() + stt_connects_s)
        deps = CallDependencies(
            call=_Call(id=new_id(), account_id=ACCOUNT, lead_id=new_id(), template_id=self.ids["desk"]),
            media=cast(Any, self.media),
            carrier=_NoCarrier(),
            time_zone=ZoneInfo("UTC"),
            payload={},
            writer=_NoWriter(),
            services=cast(Any, self.services),
            greetings=_NoGreetings(ready=ready),
            http=PreparedHttp(answers or {}, lambda *_: None),
            clock=SystemClock(),
            on_fact=self.facts.append,
            dial=dial,
            transfer=transfer,
            has_phone=has_phone,
        )

        async def load() -> Mapping[UUID, TemplateSnapshot]:
            return {each: _snapshot(each, document) for each, document in documents.items()}

        async def begin() -> asyncio.Task[End]:
            if usual_pace_ms is not None:
                self.services.pace.note(usual_pace_ms)
            self.session = Session(deps, answering, past)
            return asyncio.create_task(self.session.run(load))

        self.running = loop.play(begin())
        loop.at_end.append(self.hang_up)
        self.run(0.5)

    # ------------------------------------------------------------------------- the caller's side

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self._loop.play(asyncio.sleep(seconds))

    def plan(self, *plans: Plan) -> None:
        """What the models answer next, in order."""
        self.script.plans.extend(plans)

    def fail_voice(self, *faults: VoiceFault) -> None:
        """What goes wrong with the next texts that are spoken, in order."""
        self.script.voice_faults.extend(faults)

    def begin_turn(self, words: str = "") -> None:
        """The caller begins to speak, and interrupts."""

        self._is_speaking = True

        async def begin() -> None:
            await self.media.source.broadcast_frame(UserStartedSpeakingFrame)
            await self.media.source.broadcast_frame(InterruptionFrame)
            if words:
                await self.media.source.push_frame(InterimTranscriptionFrame(words, "caller", "now"))

        self.do(begin())

    def end_turn(self, words: str = "") -> None:
        """The caller's turn ends; without words it was noise."""

        async def end() -> None:
            if words:
                frame = TranscriptionFrame(words, "caller", "now", finalized=True)
                await self.media.source.push_frame(frame)
                await asyncio.sleep(0.05)
            await self.media.source.broadcast_frame(UserStoppedSpeakingFrame)

        self.do(end())
        self._is_speaking = False
        self._turn_ended_ms = self.media.now_ms()

    def say(self, words: str, seconds: float = 1.0) -> None:
        """The caller says something."""
        self.begin_turn(words)
        self.run(seconds)
        self.end_turn(words)

    def sound(self, seconds: float = 1.0) -> None:
        """The caller is audible, whatever a service makes of it; from now on the stream carries audio."""
        if self._sounding is None:
            self._sounding = self._loop.create_task(self._sound())
        self._is_speaking = True
        self.run(seconds)
        self._is_speaking = False
        self._turn_ended_ms = self.media.now_ms()

    async def _sound(self) -> None:
        while self.media.is_open:
            level = b"\x00\x20\x00\xe0" if self._is_speaking else b"\x00\x00\x00\x00"
            self.media.hear(level * int(FRAME_S * SAMPLE_RATE / 2))
            await asyncio.sleep(FRAME_S)

    def noise(self, seconds: float = 1.0) -> None:
        """A sound without words."""
        self.begin_turn()
        self.run(seconds)
        self.end_turn()

    def lose_voice(self) -> None:
        """The connection of the voice that is connected breaks."""
        voice = self.services.voices[-1]
        self.do(voice.push_error("the scripted voice dropped", exception=ConnectionError("scripted")))

    def lose_stt(self, seconds: float) -> None:
        """The STT's connection breaks; another one can be made after so many seconds."""

        async def lose() -> None:
            self.services.stt_from_s = self._loop.time() + seconds
            listener = self.services.listeners[-1]
            await listener.push_error("the scripted STT dropped", exception=ConnectionError("scripted"))

        self.do(lose())

    def press(self, digits: str, pause_s: float = 0.3) -> None:
        """The caller presses keys one after another."""

        async def press() -> None:
            for digit in digits:
                self.media.press(digit)
                await asyncio.sleep(pause_s)

        self.do(press())

    def handoff_changed(self, status: HandoffStatus) -> None:
        """The queue reports the present status of the caller's request for a person."""

        async def report() -> None:
            self.session.waiting.handoff_changed(status)

        self.do(report())

    def hang_up(self) -> None:
        """The caller hangs up."""
        self.media.close_by("carrier")
        self.run(1.0)

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something happen in the call, unless it is over."""
        if self.is_over:
            work.close()
        else:
            self._loop.play(work)

    # ------------------------------------------------------------------------------- what happened

    @property
    def is_over(self) -> bool:
        """Whether the call has ended."""
        return self.running.done()

    @property
    def end(self) -> End | None:
        """How it ended; None while it lasts."""
        return self.running.result() if self.running.done() else None

    @property
    def utterances(self) -> Sequence[UtteranceRecord]:
        """The transcript."""
        return [fact for fact in self.facts if isinstance(fact, UtteranceRecord)]

    @property
    def routes(self) -> Sequence[RouteRecord]:
        """The routes."""
        return [fact for fact in self.facts if isinstance(fact, RouteRecord)]

    def events(self, type_: str) -> Sequence[EventRecord]:
        """The events of a type."""
        return [fact for fact in self.facts if isinstance(fact, EventRecord) and fact.type == type_]

    def heard(self, *, fillers: bool = True) -> list[str]:
        """What the agents were heard to say, by the transcript."""
        return [
            it.heard_text
            for it in self.utterances
            if it.speaker == "agent" and it.heard_text and (fillers or it.source != "filler")
        ]

    def silent_ms(self) -> float:
        """How long neither side has been heard; 0 while one of them speaks."""
        if self._is_speaking:
            return 0.0
        last = self.media.played[-1].end_ms if self.media.played else self._turn_ended_ms
        return max(0.0, self.media.now_ms() - max(last, self._turn_ended_ms))

    @property
    def is_quiet(self) -> bool:
        """Whether neither side has spoken and nothing was in progress for half a second."""
        return self.silent_ms() > 500 and not self.awaits_agent() and self.session.is_at_rest

    def awaits_agent(self) -> bool:
        """Whether the caller waits for an agent: the last utterance was theirs, or was interrupted."""
        said = [it for it in self.utterances if not _is_unknown(it)]
        if not said or said[-1].speaker == "caller" or said[-1].interrupted:
            return True
        return said[-1].template_id != self.agent_in_charge

    @property
    def agent_in_charge(self) -> UUID:
        """The template that the last route led to."""
        done = [route.to_template_id for route in self.routes if route.status == "done"]
        return done[-1] or self.ids["desk"] if done else self.ids["desk"]

    def memory(self, role: Literal["user", "assistant"]) -> list[str]:
        """The words of one side in the model's context."""
        said = [m["content"] for m in self.context if m.get("role") == role and m.get("content")]
        return " ".join(map(str, said)).split()

    def recorded(self, speaker: Literal["caller", "agent"]) -> list[str]:
        """The words of one side in the transcript, without those that the model does not know of."""
        said = [it for it in self.utterances if it.speaker == speaker and not _is_unknown(it)]
        return " ".join(it.heard_text or "" for it in said).split()

    @property
    def context(self) -> Sequence[Mapping[str, Any]]:
        """The messages in the model's context; none before its first request."""
        context = self.script.context
        return [cast("dict[str, Any]", m) for m in context.get_messages()] if context is not None else ()

    def remembered(self) -> str:
        """What the model is told the agents have said, in the latest request."""
        messages = self.script.asked[-1].messages if self.script.asked else ()
        return " ".join(m["content"] for m in messages if m["role"] == "assistant" and m.get("content"))


def _is_unknown(said: UtteranceRecord) -> bool:
    """Whether the model is not told of it: a filler or an apology, or the end of one."""
    return said.source == "filler" and any(text.endswith(said.text) for text in UNKNOWN)


def _snapshot(template_id: UUID, document: Mapping[str, Any]) -> TemplateSnapshot:
    return TemplateSnapshot(
        id=template_id,
        account_id=ACCOUNT,
        name=document["name"],
        kind=document.get("kind", "agent"),
        status="active",
        revision=1,
        content={"fillers": [], **document},
    )
