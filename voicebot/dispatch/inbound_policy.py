"""Decides on an inbound call before it is connected. Pure functions without carrier and database.

The policy is a number's or a template's (``inbound``). ``refusal_of`` says whether it takes a call now,
``answering`` who answers the calls of a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from db.inbound import AnsweringTemplate
from templates.inbound import Busy, Hours, InboundPolicy, Reason
from templates.outbound import DAYS

MAX_CHOICES = 9
"""How many agents a menu offers: one for each key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFacts:
    """The facts that the decision depends on.

    Attributes:
        at: the present moment.
        zone: the number's time zone.
        caller: E.164; None if the caller withheld their number.
        recent_calls: calls of this caller that were taken in the period of ``per_caller``: at the number, or
            by the template if the policy is a template's.
        live_calls: inbound calls of the number, or of the template, that have not ended.
    """

    at: datetime
    zone: ZoneInfo
    caller: str | None
    recent_calls: int = 0
    live_calls: int = 0


@dataclass(frozen=True, slots=True)
class Menu:
    """Several agents answer the number: the caller chooses one by its key, from 1."""

    templates: Sequence[AnsweringTemplate]


def refusal_of(policy: InboundPolicy, facts: CallFacts, busy: Busy = "number_busy") -> Reason | None:
    """Why a call is not taken; None: it is. ``busy`` is the reason where too many calls are live."""
    if not policy.accepting:
        return "not_accepting"
    if facts.caller is not None and facts.caller in policy.blocked:
        return "blocked"
    if policy.hours is not None and not is_open(policy.hours, facts.at, facts.zone):
        return "outside_hours"
    limit = policy.per_caller
    if limit is not None and facts.caller is not None and facts.recent_calls >= limit.calls:
        return "caller_limit"
    if policy.max_concurrent is not None and facts.live_calls >= policy.max_concurrent:
        return busy
    return None


def is_open(hours: Hours, at: datetime, zone: ZoneInfo) -> bool:
    """Whether a moment is within the hours, which belong to the day and holiday on which they begin."""
    local = at.astimezone(zone)
    clock, day = f"{local:%H:%M}", local.date()
    is_overnight = hours.to < hours.from_
    if is_overnight and clock < hours.to:
        day -= timedelta(days=1)  # these hours have begun on the day before
        is_inside = True
    else:
        is_inside = hours.from_ <= clock and (is_overnight or clock < hours.to)
    return is_inside and DAYS[day.weekday()] in hours.days and day.isoformat() not in hours.holidays


def answering(templates: Sequence[AnsweringTemplate]) -> AnsweringTemplate | Menu | None:
    """Who answers: the orchestrator, else the only agent, else a menu of the agents; None: nobody.

    ``templates`` are the active ones of the number, oldest first.
    """
    for template in templates:
        if template.kind == "orchestrator":
            return template
    if len(templates) > 1:
        return Menu(templates[:MAX_CHOICES])
    return templates[0] if templates else None
