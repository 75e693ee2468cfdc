"""What a call was before its stream was lost: read from what it has written, by whichever process goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from db import events, routes, utterances
from db.calls import CallRecord
from db.events import EventRecord
from db.pool import Database
from voicebot.call.agents import BACK
from voicebot.call.transcript.recorder import Seqs

_ROLES = {"caller": "user", "agent": "assistant"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeState:
    """What happened on a call before its stream was lost, and how long ago it was answered.

    ``agent`` had the call (``Agent.known_as``) and had entered the nodes ``visited``; ``variables`` are those
    of all agents.
    """

    agent: str = BACK
    visited: Sequence[str] = ()
    variables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    said: Sequence[Any] = ()
    hops: int = 0
    since_answer_ms: float = 0.0
    seqs: Seqs = field(default_factory=Seqs)


async def load_resume_state(database: Database, call: CallRecord, now: datetime) -> ResumeState:
    """Read a call's past."""
    happened, said, routed = await asyncio.gather(
        events.of_call(database, call.account_id, call.id),
        utterances.of_call(database, call.account_id, call.id),
        routes.of_call(database, call.account_id, call.id),
    )
    done = [route for route in routed if route.status == "done"]
    return ResumeState(
        agent=done[-1].name if done else BACK,
        visited=visited(happened),
        variables=call.variables,
        since_answer_ms=(now - (call.answered_at or now)).total_seconds() * 1000,
        said=[
            {"role": _ROLES[u.speaker], "content": u.heard_text or u.text}
            for u in said
            if u.speaker in _ROLES
        ],
        hops=len(done),
        seqs=Seqs(
            events=max((e.seq for e in happened), default=0),
            utterances=max((u.seq for u in said), default=0),
            routes=max((r.seq for r in routed), default=0),
        ),
    )


def visited(happened: Sequence[EventRecord]) -> Sequence[str]:
    """The nodes that the agent who has the call has entered since they took it over, in order."""
    nodes: list[tuple[UUID | None, str]] = []
    for event in happened:
        if event.type == "voice.switched":
            nodes.clear()
        elif event.type == "node.entered" and event.node is not None:
            nodes.append((event.template_id, event.node))
    return [node for template_id, node in nodes if template_id == nodes[-1][0]]
