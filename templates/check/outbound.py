"""Rules about the calling window of outbound calls."""

from __future__ import annotations

from collections.abc import Iterator

from templates.check.context import CheckContext
from templates.check.rules import problem_for
from templates.model import TemplateContent
from templates.outbound import TIME_OF_DAY
from templates.problem import Problem


def check_outbound(content: TemplateContent, _context: CheckContext) -> Iterator[Problem]:
    """Check that the window can be read and is open at some time."""
    window = content.outbound.window
    where = ("outbound", "window")
    invalid = False
    for name, value in (("from", window.from_), ("to", window.to)):
        if not TIME_OF_DAY.matches(value) or (name, value) == ("from", "24:00"):
            invalid = True
            yield problem_for("time_of_day_invalid", (*where, name), f"'{value[:20]}' is no time of day.")
    if not invalid and window.to <= window.from_:
        message = f"The window ends at {window.to}, which is not later than {window.from_}."
        yield problem_for("window_empty", (*where, "to"), message)
    if not window.days:
        yield problem_for("window_empty", (*where, "days"), "The window has no day.")
