"""What a scene stands on: the server with a database, the vendors, a carrier, and an account's templates.

    desk = await world.desk(routes=[world.route("billing", await world.agent("Billing", voice=HIGH))])
    call = await world.place(Listen(), Say(text=BILL), Listen(), HangUp(), to=desk)
    call.words("agent"), call.events("route.done"), call.routes, call.lead, call.heard

Calls run at real pace, so words are few and agents answer quickly. `settled` looks at what every call must
leave behind, whatever happened in it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from tests.api.server_fixture import RunningServer, create, create_tenant, new_e164, serving
from voicebot.config import Settings
from voicebot.sandbox.audio.analysis import Analysis, analyse
from voicebot.sandbox.audio.measurement import Fingerprint, TooShort, distance, fingerprint, spans
from voicebot.sandbox.audio.mulaw import samples_of
from voicebot.sandbox.caller import Caller, Listen, Outcome, Step
from voicebot.sandbox.carrier import Call, Carrier, CarrierSettings, Misbehaviour
from voicebot.sandbox.environment import TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN, Sandbox
from voicebot.sandbox.speech.synthesis import synthesize
from voicebot.sandbox.vendors.latency import Latency

PUBLIC_URL = "https://bot.example.com"

# 67, 101, 146 and 209 Hz: nobody takes one for another.
LOWEST, LOW, HIGH, HIGHEST = "voice-3", "voice-8", "voice-17", "voice-19"

BILL = "I have a question about my bill."
REPAIR = "My bicycle needs a repair."
BACK = "Take me back to the desk."
OPEN = "When are you open?"
STOP = "Please stop talking now."
BYE = "Thank you, goodbye."
PHRASES = (BILL, REPAIR, BACK, OPEN, STOP, BYE)

WELCOME = "Acme, good morning."

QUIET_MS = 450.0
ENDED_S = 15.0
_TRAIL = 1600  # samples: the last word is written down a little before it has sounded

_people = count(14155560000)
_names = count(1)


def hear(timeout_ms: float = 12_000, quiet_ms: float = QUIET_MS) -> Listen:
    """Hear an agent out."""
    return Listen(quiet_ms=quiet_ms, timeout_ms=timeout_ms)


@dataclass(frozen=True, kw_only=True, repr=False)
class Facts:
    """What a call left behind, at the carrier and in the API."""

    carrier: Call
    outcome: Outcome
    record: Mapping[str, Any]
    lead: Mapping[str, Any]
    transcript: Sequence[Mapping[str, Any]]
    all_events: Sequence[Mapping[str, Any]]
    routes: Sequence[Mapping[str, Any]]

    def __repr__(self) -> str:
        """What a failed test shows: the call as it was written down."""
        said = [
            f"{row['started_ms']:>6}-{row['ended_ms']} {row['speaker']} {row['source']} {row['heard_text']!r}"
            + (f" of {row['text']!r}" if row["text"] != row["heard_text"] else "")
            for row in self.transcript
        ]
        events = [f"{row['at'][17:23]} {row['type']} {row['node']} {row['data']}" for row in self.all_events]
        facts = (self.outcome.failure, dict(self.record), self.carrier.complaints)
        return "\n".join(["", *said, *events, *map(str, facts)])

    def words(self, speaker: str = "agent") -> list[str]:
        """What one side said, as it was heard."""
        return [said["heard_text"] for said in self.transcript if said["speaker"] == speaker]

    def said(self) -> list[tuple[str, str]]:
        """Who said what, in order."""
        return [(said["speaker"], said["heard_text"]) for said in self.transcript]

    def events(self, *types: str) -> list[Mapping[str, Any]]:
        """The events of some types, in order."""
        return [event for event in self.all_events if event["type"] in types]

    def data(self, type_: str) -> list[Mapping[str, Any]]:
        """What the events of one type tell."""
        return [event["data"] for event in self.events(type_)]

    @cached_property
    def heard(self) -> Analysis:
        """The recording, judged by machine."""
        return analyse(self.carrier.recording())

    @property
    def voices(self) -> list[str]:
        """In whose voice each utterance of ours sounded, neighbours of one voice as one."""
        received = self.carrier.recording().received
        heard: list[str] = []
        for said in self.transcript:
            if said["speaker"] == "agent":
                sound = received[said["started_ms"] * 8 : said["ended_ms"] * 8 + _TRAIL]
                heard.append(_nearest(fingerprint(sound), said["heard_text"]))
        return [voice for voice, before in zip(heard, [None, *heard], strict=False) if voice != before]

    @property
    def agent_spans(self) -> list[tuple[float, float]]:
        """When the agents sounded, in ms since the answer; a pause of 700 ms parts them."""
        found = spans(self.carrier.recording().received, pause_ms=700.0)
        return [(span.start_ms, span.end_ms) for span in found]

    @property
    def first_word_ms(self) -> float:
        """When the first audio came, since the answer."""
        return self.carrier_event("media.first")["start_ms"]

    def carrier_event(self, name: str) -> Mapping[str, Any]:
        """The first event of the carrier with a name."""
        return next(event.data for event in self.carrier.events if event.name == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything a scene needs."""

    sandbox: Sandbox
    carrier: Carrier
    server: RunningServer
    api: httpx.AsyncClient

    async def agent(
        self, name: str = "Billing", says: str = "Billing here.", voice: str = HIGH, **more: Any
    ) -> dict[str, Any]:
        """An active agent who begins with `says`; `more` overrides fields of the template."""
        document = _document(name, voice, f'You are {name.lower()}. Say "{says}" first.')
        return await create(self.api, "/templates", {**document, **more})

    def route(self, name: str, agent: Mapping[str, Any], when: str = "", **more: Any) -> dict[str, Any]:
        """A route to an agent; `when` is what the caller wants."""
        return {"name": name, "template_id": agent["id"], "when": when or _WHEN[name], **more}

    async def desk(self, *routes: Mapping[str, Any], voice: str = LOW, **more: Any) -> str:
        """An active orchestrator that greets with `WELCOME` on a number of its own, which is returned."""
        number = await create(self.api, "/numbers", {"e164": new_e164()})
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
        wrong: Misbehaviour | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> tuple[Call, Caller]:
        """Let somebody call a number; the call goes on by itself."""
        person = Caller(script=script, voice_id="caller-1", attentive=False, on_step=on_step)
        return self.carrier.call(from_=f"+{next(_people)}", to=to, person=person, wrong=wrong), person

    async def place(
        self,
        *script: Step,
        to: str,
        wrong: Misbehaviour | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> Facts:
        """Let somebody call a number and live a script; return what the call left behind."""
        call, person = self.dial(*script, to=to, wrong=wrong, on_step=on_step)
        await call.ended()
        return await self.facts(call, person)

    async def facts(self, call: Call, person: Caller) -> Facts:
        """What a call that is over at the carrier left behind, once it is over on the record."""
        record = await self._ended(call.sid)
        parts = await asyncio.gather(
            *(self._items(f"/calls/{record['id']}/{part}") for part in ("transcript", "events", "routes"))
        )
        lead = await self._get(f"/leads/{record['lead_id']}")
        facts = Facts(
            carrier=call, outcome=person.outcome, record=record, lead=lead,
            transcript=parts[0], all_events=parts[1], routes=parts[2],
        )  # fmt: skip
        print(facts)  # shown by pytest where a test fails
        settled(facts)
        return facts

    async def record(self, sid: str) -> dict[str, Any] | None:
        """A call as the API has it, by the carrier's id; None when there is none."""
        calls = await self._items("/calls")
        return next((item for item in calls if item["carrier_call_id"] == sid), None)

    async def _ended(self, sid: str) -> dict[str, Any]:
        async with asyncio.timeout(ENDED_S):
            while (known := await self.record(sid)) is None or known["status"] != "ended":
                await asyncio.sleep(0.1)
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
        """The requests the model got, in order: those in which some text occurs."""
        bodies = [request.body for request in self.sandbox.usage.requests("openai")]
        return [body for body in bodies if containing in str(body)]


_WHEN = {
    "billing": "The caller asks about a bill or an invoice.",
    "workshop": "The caller's bicycle needs a repair.",
}


def _nearest(sound: Fingerprint, words: str) -> str:
    """The voice in which these words would sound most like this."""
    known = {}
    for voice in (LOWEST, LOW, HIGH, HIGHEST):
        try:
            known[voice] = fingerprint(samples_of(synthesize(words, voice)))
        except TooShort:
            known[voice] = fingerprint(samples_of(synthesize(f"{words} How may I help you?", voice)))
    return min(known, key=lambda voice: distance(sound, known[voice]))


def _document(name: str, voice: str, prompt: str) -> dict[str, Any]:
    return {
        "name": f"{name} {next(_names)}",
        "status": "active",
        "description": f"{name} of Acme.",
        "prompt": prompt,
        "tts": {"voice_id": voice},
        "turns": {"end_silence_ms": 300},
    }


def settled(call: Facts) -> None:
    """What holds for every call: each thing once, in order, and in somebody's role."""
    for rows in (call.transcript, call.all_events, call.routes):
        assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
        assert len({row["id"] for row in rows}) == len(rows)
    assert [said["started_ms"] for said in call.transcript] == sorted(
        said["started_ms"] for said in call.transcript
    )
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
async def moved_in(database_url: str, directory: Path, **more: Any) -> AsyncIterator[World]:
    """A world with an empty database; `more` are settings of the server by their environment's names."""
    quick = Latency(first_token_ms=20, token_ms=1, first_audio_ms=20, audio_ms=1)
    async with contextlib.AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(phrases=PHRASES, latency=quick))
        settings = Settings(
            _env_file=None,
            **{
                **sandbox.env,
                "DATABASE_URL": database_url,
                "VOICEBOT_DATA_DIR": str(directory),
                "VOICEBOT_PORT": 0,
                "VOICEBOT_DRAIN_TIMEOUT_MS": 500,
                "PUBLIC_URL": PUBLIC_URL,
                **more,
            },
        )
        server = await stack.enter_async_context(serving(settings))
        tenant = await stack.enter_async_context(create_tenant(server.url, server.app_state.database))
        carrier = await stack.enter_async_context(
            Carrier(
                CarrierSettings(
                    public_url=PUBLIC_URL,
                    server_url=server.url,
                    account_sid=TWILIO_ACCOUNT_SID,
                    auth_token=TWILIO_AUTH_TOKEN,
                )
            )
        )
        await sandbox.attach(carrier)
        yield World(sandbox=sandbox, carrier=carrier, server=server, api=tenant.owner)
