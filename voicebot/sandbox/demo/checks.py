"""Compares a call with the scenario: its records, and measurements of its recording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from voicebot.sandbox.audio.analysis import Analysis
from voicebot.sandbox.caller import Outcome
from voicebot.sandbox.demo import scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """Everything known about a call after its end. Records are as the API returns them."""

    ids: Mapping[str, str]
    """Template ids by the names of their files."""
    caller: Outcome
    complaints: Sequence[str]
    """What the carrier would report as errors of the application."""
    call: Mapping[str, Any]
    lead: Mapping[str, Any]
    events: Sequence[Mapping[str, Any]]
    transcript: Sequence[Mapping[str, Any]]
    routes: Sequence[Mapping[str, Any]]
    visits: Sequence[str]
    measured: Analysis


def faults(result: CallResult) -> list[str]:
    """Return a sentence for each difference from the scenario."""
    return [
        *_call_end(result),
        *_routes(result),
        *_outcome(result),
        *_transcript(result),
        *_recording(result.measured),
    ]


def _call_end(result: CallResult) -> Iterator[str]:
    if result.caller.failure is not None:
        yield f"The caller gave up: {result.caller.failure}."
    yield from (f"The carrier complains: {complaint}" for complaint in result.complaints)
    if result.call["status"] != "ended" or result.call["ended_by"] != "caller":
        yield f"The call is {result.call['status']}, ended by {result.call['ended_by']}; the caller hung up."


def _routes(result: CallResult) -> Iterator[str]:
    done = [route for route in result.routes if route["status"] == "done"]
    for route in result.routes:
        if route["status"] != "done":
            yield f"The route to {route['name']} was {route['status']}: {route['error_code']}."
    expected_routes = [(expected.name, expected.announced) for expected in scenario.ROUTES]
    done_routes = [(route["name"], route["announced"]) for route in done]
    if done_routes != expected_routes:
        yield f"The routes are {_listed(done_routes)}; they should be {_listed(expected_routes)}."
    yield from (f"The route to {route['name']} has no gap." for route in done if route["gap_ms"] is None)


def _outcome(result: CallResult) -> Iterator[str]:
    called = {event["data"]["name"] for event in result.events if event["type"] == "function.called"}
    yield from (f"{name} was never called." for name in scenario.FUNCTIONS if name not in called)
    if list(result.visits) != [scenario.VISIT]:
        yield f"The visits are {', '.join(result.visits) or 'none'}; one was to be booked, {scenario.VISIT}."
    if result.lead["template_id"] != result.ids[scenario.LAST_AGENT]:
        yield "The lead does not have the last agent's template."
    if result.lead["outcome"] != scenario.OUTCOME:
        yield f"The lead's outcome is {result.lead['outcome']!r}, not {scenario.OUTCOME!r}."


def _transcript(result: CallResult) -> Iterator[str]:
    said = [each["text"] for each in result.transcript if each["speaker"] == "caller"]
    if _plain(" ".join(said)) != _plain(" ".join(scenario.PHRASES)):
        yield f"The caller was understood as: {' / '.join(said)}"


def _recording(measured: Analysis) -> Iterator[str]:
    for overlap in measured.overlaps:
        yield f"Two voices at once, {overlap.start_ms:.0f} to {overlap.end_ms:.0f} ms."
    voices = tuple(voice for voice, _ in groupby(part.voice for part in measured.agent))
    if voices != scenario.VOICES:
        yield f"The voices are heard in the order {' '.join(voices)}, not {' '.join(scenario.VOICES)}."
    for gap in measured.gaps:
        if gap.ms > scenario.LONGEST_GAP_MS:
            yield f"The caller waited {gap.ms:.0f} ms for an answer at {gap.caller_end_ms:.0f} ms."


def _listed(routes: Sequence[tuple[str, bool]]) -> str:
    return ", ".join(f"{name}{' (announced)' if announced else ''}" for name, announced in routes) or "none"


def _plain(text: str) -> str:
    return " ".join("".join(c for c in text.lower() if c.isalnum() or c.isspace()).split())
