"""`voicebot demo --person`: the caller talks to a person by telephone and returns to the agent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import numpy as np
from rich.console import Console

from voicebot.sandbox.audio import wav
from voicebot.sandbox.audio.analysis import Analysis, analyse, locate_roughly
from voicebot.sandbox.audio.mulaw import Samples, samples_of
from voicebot.sandbox.caller import Caller, Outcome
from voicebot.sandbox.carrier import Call, Carrier, Phone
from voicebot.sandbox.demo import person_scenario as scenario
from voicebot.sandbox.demo.account import Api, written
from voicebot.sandbox.demo.call_log import Line
from voicebot.sandbox.demo.display import Display
from voicebot.sandbox.demo.run import show, telephone
from voicebot.sandbox.speech.synthesis import synthesize

_TEMPLATES = "person_templates"
_POLL_S = 0.1
_AUDIBLE = 110.0
"""Root mean square of 16-bit samples from which 20 ms count as sound; about -49 dB of full scale."""
_TICK = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonResult:
    """Everything known about the call after its end. Records are as the API returns them."""

    caller: Outcome
    operator: Outcome
    complaints: Sequence[str]
    call: Mapping[str, Any]
    handoff: Mapping[str, Any]
    transcript: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    lines: Sequence[Line]
    heard_by_caller: Sequence[str]
    """The operator's words that are found in the audio that the caller received."""
    heard_by_operator: Sequence[str]
    longest_silence_ms: float
    """The longest time in which the caller heard nothing and said nothing."""
    measured: Analysis
    recording: Path
    faults: Sequence[str] = ()

    def as_json(self) -> dict[str, object]:
        """Plain data."""
        return {
            "ok": not self.faults,
            "faults": list(self.faults),
            "recording": str(self.recording),
            "call": self.call,
            "handoff": self.handoff,
            "transcript": self.transcript,
            "events": self.events,
            "heard_by_caller": list(self.heard_by_caller),
            "heard_by_operator": list(self.heard_by_operator),
            "longest_silence_ms": self.longest_silence_ms,
            "heard": self.measured.as_json(),
        }


async def run(console: Console, directory: Path) -> PersonResult:
    """Place the call and print it; write the recording into ``directory``.

    Raises:
        ServerFailed, SandboxFailed, Refused, CallMissing, CallTooLong: what did not work.
    """
    began = time.monotonic()
    console.print("Starting the vendors' stand-ins and the server …", style="bright_black")
    async with telephone(scenario.PHRASES) as (api, carrier):
        number = await api.post("/numbers", {"e164": scenario.NUMBER, "carrier": "twilio"})
        agent = await api.post("/templates", written(scenario.AGENT, _TEMPLATES))
        desk = written(scenario.TEMPLATE, _TEMPLATES)
        desk["number_id"], desk["routes"][0]["template_id"] = number["id"], agent["id"]
        del desk["routes"][0]["template"]
        template = await api.post("/templates", desk)
        operator = await _operator(api)
        display = Display(console, {template["id"]: "help desk"})
        display.note(f"{scenario.CALLER} dials {scenario.NUMBER} ({time.monotonic() - began:.1f} s).\n")
        try:
            result = await _call(api, operator, cast(Carrier, carrier), display, directory)
        finally:
            await operator.aclose()
    display.result(result.faults, time.monotonic() - began)
    return result


async def _operator(api: Api) -> Api:
    """Give a person access; return the API with their key."""
    user = {"name": scenario.OPERATOR, "phone": scenario.OPERATOR_PHONE, "role": "operator"}
    user_id = (await api.post("/users", user))["id"]
    key = await api.post("/keys", {"role": "operator", "user_id": user_id, "label": "telephone"})
    operator = api.with_key(key["key"])
    await operator.put("/operators/me/presence", {"status": "idle"})
    return operator


async def _call(api: Api, operator: Api, carrier: Carrier, display: Display, directory: Path) -> PersonResult:
    joined = asyncio.Event()
    person = Caller(script=scenario.operator(joined), voice_id=scenario.OPERATOR_VOICE, attentive=False)
    carrier.phones[scenario.OPERATOR_PHONE] = Phone(after_ms=scenario.RING_MS, person=person)
    caller = Caller(script=scenario.caller(joined), voice_id=scenario.CALLER_VOICE)
    call = carrier.call(from_=scenario.CALLER, to=scenario.NUMBER, person=caller)
    claiming = asyncio.create_task(_claim(operator, display))
    meeting = asyncio.create_task(_meeting(call, joined, display))
    try:
        lines = await show(api, call, display)
    finally:
        claiming.cancel()
        meeting.cancel()
        await asyncio.gather(claiming, meeting, return_exceptions=True)
    legs = [other for other in carrier.calls.values() if other.leg.to == scenario.OPERATOR_PHONE]
    for leg in legs:
        await leg.ended()
    recording = call.recording()
    path = wav.write(directory / f"demo-{datetime.now().astimezone():%Y%m%d-%H%M%S}.wav", recording)
    to_operator = np.concatenate([*(leg.recording().received for leg in legs), np.zeros(0, np.int16)])
    call_id = lines[0].record["call_id"]
    claimed = claiming.done() and not claiming.cancelled()
    result = PersonResult(
        caller=caller.outcome,
        operator=person.outcome,
        complaints=[str(complaint) for each in (call, *legs) for complaint in each.complaints],
        call=await api.get(f"/calls/{call_id}"),
        handoff=await api.get(f"/handoffs/{claiming.result()}") if claimed else {},
        transcript=(await api.get(f"/calls/{call_id}/transcript"))["items"],
        events=(await api.get(f"/calls/{call_id}/events"))["items"],
        lines=lines,
        heard_by_caller=await asyncio.to_thread(
            _found, recording.received, (scenario.HELLO, scenario.SOLUTION), scenario.OPERATOR_VOICE
        ),
        heard_by_operator=await asyncio.to_thread(
            _found, to_operator, (scenario.PROBLEM,), scenario.CALLER_VOICE
        ),
        longest_silence_ms=longest_silence_ms(recording.sent, recording.received),
        measured=await asyncio.to_thread(analyse, recording),
        recording=path,
    )
    display.recording(path, result.measured)
    return replace(result, faults=tuple(faults(result)))


async def _claim(operator: Api, display: Display) -> str:
    """Claim the first handoff in the queue, as an operator does; return its id."""
    while True:
        waiting = (await operator.get("/handoffs"))["items"]
        if waiting:
            await operator.post(f"/handoffs/{waiting[0]['id']}/claim", {})
            display.note(f"{scenario.OPERATOR} claims the handoff; {scenario.OPERATOR_PHONE} rings.")
            return str(waiting[0]["id"])
        await asyncio.sleep(_POLL_S)


async def _meeting(call: Call, joined: asyncio.Event, display: Display) -> None:
    """Tell both when they are in the same conference."""
    await _until(lambda: call.room is not None and len(call.room.participants) > 1)
    display.note(f"{scenario.OPERATOR} has pressed 1: the caller and {scenario.OPERATOR} are connected.")
    joined.set()
    await _until(lambda: call.room is None)
    display.note(f"{scenario.OPERATOR} has pressed the star: the caller is back.")


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the carrier's objects have no event for it
        await asyncio.sleep(_POLL_S)


def _found(track: Samples, texts: Sequence[str], voice: str) -> list[str]:
    return [text for text in texts if locate_roughly(track, samples_of(synthesize(text, voice))) is not None]


def longest_silence_ms(sent: Samples, received: Samples) -> float:
    """The longest time in which neither side of a recording sounds, in ms."""
    length = min(len(sent), len(received)) // _TICK * _TICK
    longest = current = 0
    for start in range(0, length, _TICK):
        piece = np.stack([sent[start : start + _TICK], received[start : start + _TICK]]).astype(float)
        is_silent = float(np.sqrt((piece**2).mean(axis=1)).max()) < _AUDIBLE
        current = current + 1 if is_silent else 0
        longest = max(longest, current)
    return longest * _TICK / 8


def faults(result: PersonResult) -> Iterator[str]:
    """A sentence for each difference from the scenario."""
    for name, outcome in (("caller", result.caller), ("operator", result.operator)):
        if outcome.failure is not None:
            yield f"The {name} gave up: {outcome.failure}."
    yield from (f"The carrier complains: {complaint}" for complaint in result.complaints)
    call, handoff = result.call, result.handoff
    if (call["status"], call["ended_by"], call["resumes"]) != ("ended", "caller", 1):
        yield f"The call is {call['status']}, ended by {call['ended_by']}, with {call['resumes']} resumes."
    if (handoff.get("state"), handoff.get("cause")) != ("resolved", "returned"):
        yield f"The handoff is {handoff.get('state')} ({handoff.get('cause')})."
    if list(result.heard_by_caller) != [scenario.HELLO, scenario.SOLUTION]:
        yield f"Of the operator, the caller heard: {' / '.join(result.heard_by_caller) or 'nothing'}"
    if list(result.heard_by_operator) != [scenario.PROBLEM]:
        yield f"Of the caller, the operator heard: {' / '.join(result.heard_by_operator) or 'nothing'}"
    voices = tuple(voice for voice, _ in groupby(p.voice for p in result.measured.agent if p.voice in "AB"))
    if voices != scenario.VOICES:
        yield f"The voices are heard in the order {' '.join(voices)}, not {' '.join(scenario.VOICES)}."
    if result.longest_silence_ms > scenario.LONGEST_SILENCE_MS:
        yield f"The caller was in silence for {result.longest_silence_ms:.0f} ms."
