"""What whoever claims is told first: the problem, what was tried, the assessment, where to start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from db.handoffs import HandoffRecord

LAST_WORDS = 6
"""How many of the latest utterances the problem is told with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Briefing:
    """Four parts of JSON values. `assessment` is None while the model has none; nothing waits for it."""

    problem: Mapping[str, Any]
    tried: Mapping[str, Any]
    assessment: Mapping[str, Any] | None
    start_here: Sequence[str]


def brief(handoff: HandoffRecord, snapshot: Mapping[str, Any]) -> Briefing:
    """Say it plainly from what was frozen, with the model's assessment where there is one."""
    lead, transcript = snapshot.get("lead") or {}, snapshot.get("transcript", [])
    called = [one["name"] for one in snapshot.get("functions", [])]
    problem = {
        "summary": handoff.reason,
        "notes": handoff.notes,
        "caller": lead.get("phone"),
        "language": handoff.language,
        "priority": handoff.priority,
        "variables": snapshot.get("variables", {}),
        "last_words": transcript[-LAST_WORDS:],
    }
    tried = {
        "agent": (snapshot.get("template") or {}).get("name"),
        "node": handoff.node,
        "functions": snapshot.get("functions", []),
        "routes": snapshot.get("routes", []),
        "handoffs_before": handoff.ordinal - 1,
        "summary": _tried(called, handoff.ordinal),
    }
    return Briefing(
        problem=problem, tried=tried, assessment=handoff.assessment, start_here=_start(handoff, transcript)
    )


def _tried(called: Sequence[str], ordinal: int) -> str:
    functions = f"Functions called: {', '.join(called)}." if called else "No function was called."
    return f"{functions} This is handoff number {ordinal} of the call."


def _start(handoff: HandoffRecord, transcript: Sequence[Mapping[str, Any]]) -> list[str]:
    steps = list((handoff.assessment or {}).get("next_steps", []))
    if steps:
        return steps
    plain = [f"The caller needs a person because: {handoff.reason}"]
    said = [one["text"] for one in transcript if one["speaker"] == "caller"]
    if said:
        plain.append(f"Their last words were: “{said[-1]}”")
    if handoff.intent == "park":
        agreed = "agreed" if handoff.consent else "has not agreed"
        plain.append(f"The caller {agreed} to be called ({handoff.time_zone or 'time zone unknown'}).")
    else:
        plain.append("Read the transcript before you speak, so that they need not repeat themselves.")
    return plain
