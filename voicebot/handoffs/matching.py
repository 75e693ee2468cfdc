"""Which operator a handoff may be offered to: language, team, and who has declined it."""

from __future__ import annotations

from datetime import datetime

from db import open_handoffs, operators
from db.handoffs import HandoffRecord
from db.open_handoffs import QueuedHandoff
from db.operators import OperatorRecord
from db.pool import Executor
from voicebot import availability

PRESENT = ("idle", "on_call", "busy", "wrapping_up")
"""States of an operator who is offered handoffs, now or soon."""


def matches(operator: OperatorRecord, queued: QueuedHandoff) -> bool:
    """Whether a handoff may be offered to an operator: language and team fit, and it was not declined."""
    handoff = queued.handoff
    return (
        operator.user_id not in queued.declined_by
        and speaks(operator, handoff.language)
        and (not operator.teams or handoff.team is None or handoff.team in operator.teams)
    )


def speaks(operator: OperatorRecord, language: str | None) -> bool:
    """Whether an operator speaks a language: `en` includes `en-US`; an operator without languages, any."""
    if not operator.languages or language is None:
        return True
    primary = language.partition("-")[0].lower()
    return any(one.lower() in (language.lower(), primary) for one in operator.languages)


async def someone_is_left(db: Executor, handoff: HandoffRecord, now: datetime) -> bool:
    """Whether an operator is present who may be offered the handoff and has not declined it."""
    declined_by = await open_handoffs.declined_by(db, handoff.account_id, handoff.id)
    queued = QueuedHandoff(handoff=handoff, declined_by=frozenset(declined_by))
    return any(
        matches(operator, queued) and availability.state(operator, now) in PRESENT
        for operator in await operators.signed_on(db, handoff.account_id)
    )
