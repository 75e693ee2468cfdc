"""The briefing that the claimant of a handoff gets: problem, what was tried, assessment, where to start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from db.handoffs import HandoffRecord

LAST_UTTERANCES = 6
"""Number of the latest utterances in the briefing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Briefing:
    """The four parts of a briefing, as JSON values."""

    problem: Mapping[str, Any]
    tried: Mapping[str, Any]
    assessment: Mapping[str, Any] | None
    """The language model's assessment; null until there is one."""
    start_here: Sequence[str]


def brief(handoff: HandoffRecord, snapshot: Mapping[str, Any]) -> Briefing:
    """Make the briefing from the snapshot and, if there is one, the model's assessment."""
    lead, transcript = snapshot.get("lead") or {}, snapshot.get("transcript", [])
    called = [function["name"] for function in snapshot.get("functions", [])]
    problem = {
        "summary": handoff.reason,
        "notes": handoff.notes,
        "caller": lead.get("phone"),
        "language": handoff.language,
        "priority": handoff.priority,
        "variables": snapshot.get("variables", {}),
        "last_words": transcript[-LAST_UTTERANCES:],
    }
    tried = {
        "agent": (snapshot.get("template") or {}).get("name"),
        "node": handoff.node,
        "functions": snapshot.get("functions", []),
        "routes": snapshot.get("routes", []),
        "handoffs_before": handoff.ordinal - 1,
        "summary": _tried_summary(called, handoff.ordinal),
    }
    return Briefing(
        problem=problem,
        tried=tried,
        assessment=handoff.assessment,
        start_here=_first_steps(handoff, transcript),
    )


def _tried_summary(called: Sequence[str], ordinal: int) -> str:
    functions = f"Functions called: {', '.join(called)}." if called else "No function was called."
    return f"{functions} This is handoff number {ordinal} of the call."


def _first_steps(handoff: HandoffRecord, transcript: Sequence[Mapping[str, Any]]) -> list[str]:
    steps = list((handoff.assessment or {}).get("next_steps", []))
    if steps:
        return steps
    steps = [f"The caller needs a person because: {handoff.reason}"]
    said = [utterance["text"] for utterance in transcript if utterance["speaker"] == "caller"]
    if said:
        steps.append(f"The caller said last: “{said[-1]}”")
    if handoff.intent == "park":
        agreed = "agreed" if handoff.consent else "has not agreed"
        steps.append(f"The caller {agreed} to be called ({handoff.time_zone or 'time zone unknown'}).")
    else:
        steps.append("Read the transcript first, so that the caller need not repeat anything.")
    return steps
