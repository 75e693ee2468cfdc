"""Whole calls: a server with a database, the vendors' stand-ins, a carrier, and an account's templates.

    billing = await harness.agent("Billing", voice=HIGH)
    number = await harness.orchestrator(harness.route("billing", billing))
    call = await harness.place(Listen(), Say(text=BILL), Listen(), HangUp(), to=number)
    call.words("agent"), call.events("route.done"), call.routes, call.lead, call.heard

Calls run in real time, so utterances are short and agents answer quickly. `check_invariants` asserts what
must hold for every call.

Speech is scripted unless a harness is started with `spoken=True`: the speech recogniser returns what the
caller announces, and each voice sounds as a tone of its own pitch. That takes little CPU time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import count, cycle
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import numpy as np

from tests.api.server_fixture import RunningServer, Tenant, create, create_tenant, new_e164, serving
from voicebot.api.app_state import AppState
from voicebot.config import Settings
from voicebot.sandbox.audio.analysis import Analysis, analyse
from voicebot.sandbox.audio.measurement import TooShort, distance, fingerprint, spans
from voicebot.sandbox.audio.mulaw import Samples, samples_of
from voicebot.sandbox.caller import Caller, Listen, Outcome, Step, WaitFor
from voicebot.sandbox.carrier import Call, Carrier, CarrierSettings, Misbehaviour
from voicebot.sandbox.environment import (
    EXOTEL_WEBHOOK_SECRET,
    TWILIO_ACCOUNT_SID,
    TWILIO_AUTH_TOKEN,
    Sandbox,
)
from voicebot.sandbox.exotel import Exotel, ExotelCall, ExotelMisbehaviour, ExotelSettings
from voicebot.sandbox.speech.scripted import pitch_hz, tone_pcm
from voicebot.sandbox.speech.synthesis import synthesize
from voicebot.sandbox.vendors.latency import Latency

PUBLIC_URL = "https://bot.example.com"

# Voices of 67, 101, 146 and 209 Hz, which cannot be confused.
VOICES = LOWEST, LOW, HIGH, HIGHEST = "voice-3", "voice-8", "voice-17", "voice-19"

BILL = "I have a question about my bill."
REPAIR = "My bicycle needs a repair."
BACK = "Take me back to the desk."
OPEN = "When are you open?"
STOP = "Please stop talking now."
BYE = "Thank you, goodbye."
PHRASES = (BILL, REPAIR, BACK, OPEN, STOP, BYE)

WELCOME = "Acme, good morning."

QUIET_MS = 600.0
"""A pause after which an agent has finished."""

ENDED_S = 30.0
RATE = 8000
_TRAIL = 1600  # samples; the end of an utterance is recorded a little before its last word has sounded

_people = count(14155560000)
# Callers at once have different voices, by which scripted speech knows whose text it is.
_voices = cycle(("caller-1", "caller-2", "caller-6"))
_names = count(1)


def hear(timeout_ms: float = 30_000, quiet_ms: float = QUIET_MS) -> Listen:
    """Return the step that listens until an agent has finished."""
    return Listen(quiet_ms=quiet_ms, timeout_ms=timeout_ms)


@dataclass(frozen=True, kw_only=True, repr=False)
class Facts:
    """Records of a call that is over, from the carrier and from the API."""

    carrier: Any
    """The carrier's call: a `Call` or an `ExotelCall`."""
    outcome: Outcome
    record: Mapping[str, Any]
    lead: Mapping[str, Any]
    transcript: Sequence[Mapping[str, Any]]
    all_events: Sequence[Mapping[str, Any]]
    routes: Sequence[Mapping[str, Any]]
    spoken: bool

    def __repr__(self) -> str:
        """Return the transcript and the events; a failed test shows them."""
        said = [
            f"{row['started_ms']:>6}-{row['ended_ms']} {row['speaker']} {row['source']} {row['heard_text']!r}"
            + (f" of {row['text']!r}" if row["text"] != row["heard_text"] else "")
            for row in self.transcript
        ]
        events = [f"{row['at'][17:23]} {row['type']} {row['node']} {row['data']}" for row in self.all_events]
        facts = (self.outcome.failure, dict(self.record), self.carrier.complaints)
        return "\n".join(["", *said, *events, *map(str, facts)])

    def words(self, speaker: str = "agent") -> list[str]:
        """Return the texts of one speaker, as heard."""
        return [said["heard_text"] for said in self.transcript if said["speaker"] == speaker]

    def said(self) -> list[tuple[str, str]]:
        """Return (speaker, text) of each utterance, in order."""
        return [(said["speaker"], said["heard_text"]) for said in self.transcript]

    def events(self, *types: str) -> list[Mapping[str, Any]]:
        """Return the events of some types, in order."""
        return [event for event in self.all_events if event["type"] in types]

    def data(self, type_: str) -> list[Mapping[str, Any]]:
        """Return the data of the events of one type."""
        return [event["data"] for event in self.events(type_)]

    @cached_property
    def heard(self) -> Analysis:
        """Analysis of the recording."""
        return analyse(self.carrier.recording())

    @property
    def voices(self) -> list[str]:
        """Voice of each utterance of the agents, recognised in the recording; repetitions are merged.

        The recording begins when the carrier answers, the transcript when the server learns of it, which is
        seconds later on a busy machine: the first sound tells how much.
        """
        received = self.carrier.recording().received
        said = [row for row in self.transcript if row["speaker"] == "agent"]
        sounds = spans(received, pause_ms=200)
        late = max(0, sounds[0].start - said[0]["started_ms"] * 8) if said and sounds else 0
        heard: list[str] = []
        for row in said:
            sound = received[late + row["started_ms"] * 8 : late + row["ended_ms"] * 8 + _TRAIL]
            heard.append(self._voice(sound, row["heard_text"]))
        return [voice for voice, before in zip(heard, [None, *heard], strict=False) if voice != before]

    def _voice(self, sound: Samples, words: str) -> str:
        """Return the voice in which these words sound like this."""
        if not self.spoken:
            spectrum = np.abs(np.fft.rfft(sound))
            pitch = float(spectrum.argmax()) * RATE / len(sound)
            return min(VOICES, key=lambda voice: abs(pitch_hz(voice) - pitch))
        known = {}
        for voice in VOICES:
            try:
                known[voice] = fingerprint(samples_of(synthesize(words, voice)))
            except TooShort:
                known[voice] = fingerprint(samples_of(synthesize(f"{words} How may I help you?", voice)))
        heard = fingerprint(sound)
        return min(known, key=lambda voice: distance(heard, known[voice]))

    @property
    def agent_spans(self) -> list[tuple[float, float]]:
        """(start, end) of the agents' speech in ms since the answer; a pause of 700 ms separates two."""
        found = spans(self.carrier.recording().received, pause_ms=700.0)
        return [(span.start_ms, span.end_ms) for span in found]

    @property
    def first_word_ms(self) -> float:
        """When the first audio arrived, in ms since the answer."""
        return float(self.carrier_event("media.first")["start_ms"])

    def carrier_event(self, name: str) -> Mapping[str, Any]:
        """Return the data of the carrier's first event with this name."""
        return next(event.data for event in self.carrier.events if event.name == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallHarness:
    """A server, its vendors, a carrier and an account."""

    sandbox: Sandbox
    carrier: Any
    """The carrier that places calls: a `Carrier` or an `Exotel`."""
    exotel: Exotel
    server: RunningServer
    tenant: Tenant
    spoken: bool
    carrier_name: str = "twilio"

    def on(self, carrier_name: str) -> CallHarness:
        """Return this harness with the numbers and the calls of a carrier."""
        if carrier_name == self.carrier_name:
            return self
        return replace(self, carrier=self.exotel, carrier_name="exotel")

    @property
    def api(self) -> httpx.AsyncClient:
        """Client of the API with the owner's key."""
        return self.tenant.owner

    async def agent(
        self, name: str = "Billing", says: str = "Billing here.", voice: str = HIGH, **more: Any
    ) -> dict[str, Any]:
        """Create an active agent that begins with `says`; `more` overrides fields of the template."""
        document = _document(name, voice, f'You are {name.lower()}. Say "{says}" first.')
        return await create(self.api, "/templates", {**document, **more})

    def route(self, name: str, agent: Mapping[str, Any], when: str = "", **more: Any) -> dict[str, Any]:
        """Return a route to an agent; `when` says what the caller wants."""
        return {"name": name, "template_id": agent["id"], "when": when or _WHEN[name], **more}

    async def orchestrator(self, *routes: Mapping[str, Any], voice: str = LOW, **more: Any) -> str:
        """Create an active orchestrator that greets with `WELCOME`; return its phone number."""
        number = await create(self.api, "/numbers", {"e164": new_e164(), "carrier": self.carrier_name})
        document = {
            **_document("Desk", voice, "You are the desk of Acme. Acme is open from eight to five."),
            "kind": "orchestrator",
            "number_id": number["id"],
            "greeting": {"text": WELCOME},
            "routes": list(routes),
        }
        await create(self.api, "/templates", {**document, **more})
        return str(number["e164"])

    def dial(
        self,
        *script: Step,
        to: str,
        wrong: Misbehaviour | ExotelMisbehaviour | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> tuple[Any, Caller]:
        """Start a call to a number; it runs in the background."""
        person = self.person(*script, on_step=on_step)
        return self.carrier.call(from_=f"+{next(_people)}", to=to, person=person, wrong=wrong), person

    async def place(
        self,
        *script: Step,
        to: str,
        wrong: Misbehaviour | ExotelMisbehaviour | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> Facts:
        """Make a call with a script to its end; return its records."""
        call, person = self.dial(*script, to=to, wrong=wrong, on_step=on_step)
        await call.ended()
        return await self.facts(call, person)

    async def facts(self, call: Call | ExotelCall, person: Caller) -> Facts:
        """Wait until a call that the carrier has ended is ended in the API, and return its records."""
        record = await self._ended(call.sid)
        parts = await asyncio.gather(
            *(self._items(f"/calls/{record['id']}/{part}") for part in ("transcript", "events", "routes"))
        )
        lead = await self._get(f"/leads/{record['lead_id']}")
        facts = Facts(
            carrier=call, outcome=person.outcome, record=record, lead=lead,
            transcript=parts[0], all_events=parts[1], routes=parts[2], spoken=self.spoken,
        )  # fmt: skip
        print(facts)  # pytest shows it when the test fails
        check_invariants(facts)
        return facts

    async def place_with_lost_stream(
        self, before: Sequence[Step], after: Sequence[Step], *, to: str, carrier: Carrier | None = None,
        before_drop: Callable[[], None] = lambda: None,
    ) -> Facts:  # fmt: skip
        """Make a call whose media stream breaks between two parts of its script.

        The second part begins when the agent has spoken on the new stream.

        Args:
            before: what the caller does before the stream breaks.
            after: what the caller does then.
            to: the number that is called.
            carrier: makes the call, by default the harness's.
            before_drop: called when the stream is about to break.
        """
        paused, lost = asyncio.Event(), asyncio.Event()
        pause = WaitFor(event=lost, timeout_ms=30_000)

        def on_step(step: Step) -> None:
            if step is pause:
                paused.set()

        person = self.person(*before, pause, hear(), *after, on_step=on_step)
        call = (carrier or self.carrier).call(from_=f"+{next(_people)}", to=to, person=person)

        async def lose_stream() -> None:
            await paused.wait()
            heard = sum(isinstance(step, Listen) for step in before)
            await self._until(call, lambda transcript: len(_heard_whole(transcript)) >= heard)
            before_drop()
            assert call.stream is not None
            call.stream.drop()
            lost.set()

        async with asyncio.TaskGroup() as tasks:
            losing = tasks.create_task(lose_stream())
            await call.ended()
            losing.cancel()
        return await self.facts(call, person)

    async def _until(
        self, call: Call | ExotelCall, condition: Callable[[Sequence[Mapping[str, Any]]], bool]
    ) -> None:
        """Wait until the call's transcript meets a condition, or until the call is over."""
        while call.live:
            record = await self.record(call.sid)
            if record is not None and condition(await self._items(f"/calls/{record['id']}/transcript")):
                return
            await asyncio.sleep(0.1)

    async def greetings_are_prepared(self, count: int) -> None:
        """Wait until this many greetings of the account have been synthesised; saving them starts that."""
        database, account_id = self.server.app_state.database, self.tenant.account_id
        query = "SELECT 1 FROM greetings WHERE account_id = $1"
        async with asyncio.timeout(30):
            while len(await database.fetch(query, account_id)) < count:
                await asyncio.sleep(0.02)

    async def leads_of_greetings(self) -> set[UUID]:
        """The leads whose values stored greetings of the account say."""
        rows = await self.server.app_state.database.fetch(
            "SELECT lead_id FROM greetings WHERE account_id = $1 AND lead_id IS NOT NULL",
            self.tenant.account_id,
        )
        return {row["lead_id"] for row in rows}

    async def vendors_are_disconnected(self, within_s: float = 15) -> None:
        """Require that every websocket to a vendor closes; a call's record can end some ms before they do."""
        usage = self.sandbox.usage
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while usage.tally().open:
                    await asyncio.sleep(0.02)
        left = [connection for connection in usage.connections() if connection.closed_at is None]
        assert not left, left

    def person(self, *script: Step, on_step: Callable[[Step], None] | None = None) -> Caller:
        """Return a caller with a script."""
        voice_id = "caller-1" if self.spoken else next(_voices)
        announce = None if self.spoken else partial(self.sandbox.transcripts.announce, voice_id=voice_id)
        return Caller(
            script=script,
            voice_id=voice_id,
            attentive=False,
            on_step=on_step,
            synthesise=self.synthesise,
            announce=announce,
        )

    def synthesise(self, text: str, voice: str) -> bytes:
        """Return a text in a voice: mono 16-bit little-endian PCM at 8,000 Hz."""
        return (synthesize if self.spoken else tone_pcm)(text, voice)

    def spoken_ms(self, text: str, voice: str) -> float:
        """Return how long a text sounds in a voice, in ms."""
        return len(self.synthesise(text, voice)) / 16

    async def record(self, sid: str) -> dict[str, Any] | None:
        """Return the API's record of a call by the carrier's id; None if there is none."""
        calls = await self._items("/calls")
        return next((item for item in calls if item["carrier_call_id"] == sid), None)

    async def turns(self, call: Facts) -> list[dict[str, Any]]:
        """Return the requests to the language model of a call, as the API answers them."""
        return await self._items(f"/calls/{call.record['id']}/turns")

    async def _ended(self, sid: str) -> dict[str, Any]:
        """Return a call's record when it has ended and is final: outcome and cost come after the end."""
        query = "SELECT 1 FROM calls WHERE carrier_call_id = $1 AND finalised_at IS NOT NULL"
        async with asyncio.timeout(ENDED_S):
            while not await self.server.app_state.database.fetch(query, sid):
                await asyncio.sleep(0.1)
        known = await self.record(sid)
        assert known is not None
        return known

    async def _items(self, path: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        page: dict[str, Any] = {"next_cursor": None}
        while not items or page["next_cursor"]:
            cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else {}
            page = await self._get(path, limit=200, **cursor)
            items += page["items"]
            if not page["items"]:
                break
        return items

    async def _get(self, path: str, **query: Any) -> dict[str, Any]:
        response = await self.api.get(path, params=query)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def asked(self, *, containing: str = "") -> list[dict[str, Any]]:
        """Return the requests to the language model that contain a text, in order."""
        bodies = [request.body for request in self.sandbox.usage.requests("openai")]
        return [body for body in bodies if containing in str(body)]

    @contextlib.asynccontextmanager
    async def when_asked(self, containing: str) -> AsyncIterator[WaitFor]:
        """A step of a script: wait until the language model was asked with a text."""
        asked = asyncio.Event()

        async def follow() -> None:
            while not self.asked(containing=containing):
                await asyncio.sleep(0.05)
            asked.set()

        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(follow())
            yield WaitFor(event=asked, timeout_ms=60_000)
            following.cancel()


_WHEN = {
    "billing": "The caller asks about a bill or an invoice.",
    "workshop": "The caller's bicycle needs a repair.",
}


def _document(name: str, voice: str, prompt: str) -> dict[str, Any]:
    return {
        "name": f"{name} {next(_names)}",
        "status": "active",
        "description": f"{name} of Acme.",
        "prompt": prompt,
        "tts": {"voice_id": voice},
        "turns": {"end_silence_ms": 300},
        # What a test expects to be said must not depend on how fast its machine is.
        "fillers": [],
        "idle": {"after_ms": 15_000},
    }


def _heard_whole(transcript: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return the utterances of agents that the caller heard to the end."""
    return [row for row in transcript if row["speaker"] == "agent" and row["heard_text"] == row["text"]]


def check_invariants(call: Facts) -> None:
    """Assert what holds for every call: rows are numbered, ordered, unique, and have their template."""
    for rows in (call.transcript, call.all_events, call.routes):
        assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
        assert len({row["id"] for row in rows}) == len(rows)
    starts = [said["started_ms"] for said in call.transcript]
    assert starts == sorted(starts)
    assert all(said["template_id"] and said["ended_ms"] >= said["started_ms"] for said in call.transcript)
    assert all(said["node"] for said in call.transcript if said["speaker"] == "agent")
    times = [event["at"] for event in call.all_events]
    assert times == sorted(times)
    assert len(call.events("call.ended")) <= 1
    done = [route for route in call.routes if route["status"] == "done"]
    assert call.lead["template_id"] == (
        done[-1]["to_template_id"] if done else call.lead["initial_template_id"]
    )


@contextlib.asynccontextmanager
async def started(
    database_url: str, directory: Path, *, spoken: bool = False, **more: Any
) -> AsyncIterator[CallHarness]:
    """Start a harness with a new account.

    Args:
        database_url: DSN of a migrated database.
        directory: the server's data directory.
        spoken: synthesise and recognise real speech.
        more: settings of the server by the names of their environment variables.
    """
    quick = Latency(first_token_ms=20, token_ms=1, first_audio_ms=20, audio_ms=1)
    async with contextlib.AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(
            Sandbox(phrases=PHRASES, latency=quick, scripted_speech=not spoken)
        )
        settings = Settings(
            _env_file=None,
            **{
                **sandbox.env,
                "DATABASE_URL": database_url,
                "VOICEBOT_DATA_DIR": str(directory),
                "VOICEBOT_PORT": 0,
                "VOICEBOT_DRAIN_TIMEOUT_MS": 500,
                # A slow machine must not refuse the calls of a test.
                "VOICEBOT_MAX_LAG_MS": 0,
                "VOICEBOT_DISPATCH": "off",
                "PUBLIC_URL": PUBLIC_URL,
                **more,
            },
        )
        server = await stack.enter_async_context(serving(settings))
        tenant = await stack.enter_async_context(create_tenant(server.url, server.app_state.database))
        carrier = await stack.enter_async_context(Carrier(carrier_settings(server.url)))
        await sandbox.attach(carrier)
        exotel = await stack.enter_async_context(Exotel(exotel_settings(server.url)))
        await sandbox.attach(exotel)
        yield CallHarness(
            sandbox=sandbox, carrier=carrier, exotel=exotel, server=server, tenant=tenant, spoken=spoken
        )


def carrier_settings(server_url: str) -> CarrierSettings:
    """Return the settings of a carrier that calls a server."""
    return CarrierSettings(
        public_url=PUBLIC_URL,
        server_url=server_url,
        account_sid=TWILIO_ACCOUNT_SID,
        auth_token=TWILIO_AUTH_TOKEN,
    )


def exotel_settings(server_url: str) -> ExotelSettings:
    """Return the settings of an Exotel whose flow is pointed at a server."""
    return ExotelSettings(public_url=PUBLIC_URL, server_url=server_url, secret=EXOTEL_WEBHOOK_SECRET)


@contextlib.asynccontextmanager
async def new_account(shared: CallHarness) -> AsyncIterator[CallHarness]:
    """Use a running harness for one test: a new account, no faults and no scripts of other tests."""
    sandbox = shared.sandbox
    sandbox.usage.clear()
    await forget_health(shared.server.app_state)
    try:
        async with create_tenant(shared.server.url, shared.server.app_state.database) as tenant:
            yield replace(shared, tenant=tenant)
    finally:
        await _without_calls(shared.server)
        sandbox.faults.clear()
        sandbox.script.clear()
        sandbox.transcripts.clear()


async def _without_calls(server: RunningServer) -> None:
    """Wait until the server has no live call, whose requests would meet the faults of the next test."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            while server.app_state.call_registry.live:
                await asyncio.sleep(0.02)


async def forget_health(app_state: AppState) -> None:
    """Forget which providers failed in earlier tests."""
    query = "UPDATE provider_health SET fault = NULL, until = NULL, probe_until = NULL, failures = 0"
    await app_state.database.execute(query)
    await app_state.provider_health.refresh()
