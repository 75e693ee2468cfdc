"""Rules about the calling window of outbound calls, and about the fields that are read from transcripts."""

from __future__ import annotations

from collections.abc import Iterator

from templates.bounds import VARIABLE_NAME
from templates.check.context import CheckContext
from templates.check.rules import problem_for
from templates.model import TemplateContent
from templates.outbound import TIME_OF_DAY
from templates.problem import Problem

MAX_OUTPUT_FIELDS = 30
MAX_OUTPUT_NAME = 64


def check_outbound(content: TemplateContent, _context: CheckContext) -> Iterator[Problem]:
    """Check that the window can be read and is open at some time, the message and the output fields."""
    yield from _output(content)
    voicemail = content.outbound.voicemail
    if voicemail.action == "message" and not voicemail.message.strip():
        place = ("outbound", "voicemail", "message")
        yield problem_for("voicemail_message_missing", place, "There is no message to leave.")
    window = content.outbound.window
    where = ("outbound", "window")
    invalid = False
    for name, value in (("from", window.from_), ("to", window.to)):
        if not TIME_OF_DAY.matches(value) or (name, value) == ("from", "24:00"):
            invalid = True
            yield problem_for("time_of_day_invalid", (*where, name), f"'{value[:20]}' is not a time of day.")
    if not invalid and window.to <= window.from_:
        message = f"The window ends at {window.to}, which is not later than {window.from_}."
        yield problem_for("window_empty", (*where, "to"), message)
    if not window.days:
        yield problem_for("window_empty", (*where, "days"), "The window has no day.")


def _output(content: TemplateContent) -> Iterator[Problem]:
    fields = content.outbound.output
    where = ("outbound", "output")
    if len(fields) > MAX_OUTPUT_FIELDS:
        message = f"There are {len(fields)} fields, more than {MAX_OUTPUT_FIELDS}."
        yield problem_for("output_field_invalid", where, message)
        return
    for name, field in fields.items():
        if not VARIABLE_NAME.matches(name) or len(name) > MAX_OUTPUT_NAME:
            yield problem_for("output_field_invalid", (*where, name), f"'{name[:20]}' is not a field name.")
        elif field.enum and field.type != "string":
            message = f"`enum` does not fit the type '{field.type}'."
            yield problem_for("output_field_invalid", (*where, name, "enum"), message)
