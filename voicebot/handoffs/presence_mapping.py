"""An operator's row as the rules of presence see it, and back."""

from __future__ import annotations

from db.operators import OperatorFacts, OperatorRecord
from voicebot.availability import Presence


def presence_of(operator: OperatorRecord) -> Presence:
    """An operator's facts for the rules."""
    return Presence(
        last_seen_at=operator.last_seen_at,
        activity=operator.activity,
        activity_until=operator.activity_until,
        quota=operator.quota,
        quota_until=operator.quota_until,
        holding=operator.holding,
        bridged=operator.bridged,
    )


def facts_of(operator: OperatorRecord, presence: Presence, *, signed_on: bool) -> OperatorFacts:
    """The operator's row with what the rules made of it."""
    return OperatorFacts(
        last_seen_at=presence.last_seen_at,
        activity=presence.activity,
        activity_until=presence.activity_until,
        quota=presence.quota,
        quota_until=presence.quota_until,
        capacity=operator.capacity,
        languages=operator.languages,
        teams=operator.teams,
        signed_on=signed_on,
    )
