"""Whether a call went as the story wants it: by the record, and by ear."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from voicebot.sandbox.audio.analysis import Analysis
from voicebot.sandbox.caller import Outcome
from voicebot.sandbox.demo import scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that is known of a call once it is over. Records are as the API answers them."""

    ids: Mapping[str, str]
    """The name of a template's file → its id."""
    caller: Outcome
    complaints: Sequence[str]
    """What the carrier would have reported as our errors."""
    call: Mapping[str, Any]
    lead: Mapping[str, Any]
    events: Sequence[Mapping[str, Any]]
    transcript: Sequence[Mapping[str, Any]]
    routes: Sequence[Mapping[str, Any]]
    visits: Sequence[str]
    heard: Analysis


def faults(told: Story) -> list[str]:
    """Name everything that is not as it should be, in plain words."""
    return [*_conduct(told), *_routes(told), *_business(told), *_words(told), *_sound(told.heard)]


def _conduct(told: Story) -> Iterator[str]:
    if told.caller.failure is not None:
        yield f"The caller gave up: {told.caller.failure}."
    yield from (f"The carrier complains: {complaint}" for complaint in told.complaints)
    if told.call["status"] != "ended" or told.call["ended_by"] != "caller":
        yield f"The call is {told.call['status']}, ended by {told.call['ended_by']}; the caller hung up."


def _routes(told: Story) -> Iterator[str]:
    done = [route for route in told.routes if route["status"] == "done"]
    for route in told.routes:
        if route["status"] != "done":
            yield f"The route to {route['name']} was {route['status']}: {route['error_code']}."
    wanted = [(leg.name, leg.announced) for leg in scenario.LEGS]
    there = [(route["name"], route["announced"]) for route in done]
    if there != wanted:
        yield f"The routes are {_listed(there)}; they should be {_listed(wanted)}."
    yield from (f"The route to {route['name']} has no gap." for route in done if route["gap_ms"] is None)


def _business(told: Story) -> Iterator[str]:
    called = {event["data"]["name"] for event in told.events if event["type"] == "function.called"}
    yield from (f"{name} was never called." for name in scenario.FUNCTIONS if name not in called)
    if not told.visits:
        yield "No visit was booked."
    if told.lead["template_id"] != told.ids[scenario.LAST_AGENT]:
        yield "The lead does not have the last agent's template."
    if told.lead["outcome"] != scenario.OUTCOME:
        yield f"The lead's outcome is {told.lead['outcome']!r}, not {scenario.OUTCOME!r}."


def _words(told: Story) -> Iterator[str]:
    said = [each["text"] for each in told.transcript if each["speaker"] == "caller"]
    if _plain(" ".join(said)) != _plain(" ".join(scenario.PHRASES)):
        yield f"The caller was understood as: {' / '.join(said)}"


def _sound(heard: Analysis) -> Iterator[str]:
    for overlap in heard.overlaps:
        yield f"Two voices at once, {overlap.start_ms:.0f} to {overlap.end_ms:.0f} ms."
    voices = tuple(voice for voice, _ in groupby(part.voice for part in heard.agent))
    if voices != scenario.VOICES:
        yield f"The voices are heard in the order {' '.join(voices)}, not {' '.join(scenario.VOICES)}."
    for gap in heard.gaps:
        if gap.ms > scenario.LONGEST_GAP_MS:
            yield f"The caller waited {gap.ms:.0f} ms for an answer at {gap.caller_end_ms:.0f} ms."


def _listed(routes: Sequence[tuple[str, bool]]) -> str:
    return ", ".join(f"{name}{' (announced)' if announced else ''}" for name, announced in routes) or "none"


def _plain(text: str) -> str:
    return " ".join("".join(c for c in text.lower() if c.isalnum() or c.isspace()).split())
