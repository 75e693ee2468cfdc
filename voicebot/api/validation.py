"""Bodies and queries that do not have the documented shape, with a JSON pointer for each fault."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi.exceptions import RequestValidationError
from pydantic import AwareDatetime, BeforeValidator, ValidationError

from templates.problem import pointer
from voicebot.api.problems import ApiProblem, FieldError

_DATE = re.compile(r"\s*[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _written_out(value: object) -> object:
    # In a query a number comes as text.
    if isinstance(value, int | float) or (isinstance(value, str) and not _DATE.match(value)):
        raise ValueError("a moment is written out, such as 2026-01-31T09:00:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_written_out)]
"""A moment, RFC 3339 with its offset: a number would be seconds since 1970, or milliseconds."""

_CODES = {"missing": "missing_field", "extra_forbidden": "unknown_field"}
_REMEDIES = {"missing": "Give a value.", "extra_forbidden": "Leave it out, or check its spelling."}


def invalid_body(error: ValidationError) -> ApiProblem:
    """A body that was read by hand."""
    return ApiProblem(
        "invalid_request",
        "The body is not valid.",
        errors=[_fault(details["loc"], details) for details in error.errors(include_url=False)],
    )


def invalid_request(error: RequestValidationError) -> ApiProblem:
    """What FastAPI could not read. An id that is none is an id of nothing."""
    details: Sequence[Mapping[str, Any]] = error.errors()
    if any(each["type"] == "json_invalid" for each in details):
        return ApiProblem("invalid_json", "The body cannot be read as JSON.")
    told = [each for each in details if each["loc"][0] != "path"]
    if not told:
        return ApiProblem("not_found", "There is nothing of this id.")
    places = sorted({str(each["loc"][0]) for each in told})
    return ApiProblem(
        "invalid_request",
        f"Not valid: the {' and the '.join(places)}.",
        errors=[_fault(each["loc"][1:], each) for each in told],
    )


def _fault(place: tuple[str | int, ...], details: Mapping[str, Any]) -> FieldError:
    kind = str(details["type"])
    return FieldError(
        pointer=pointer(*place),
        code=_CODES.get(kind, "invalid_value"),
        message=str(details["msg"]),
        remedy=_REMEDIES.get(kind, "See /docs for what is accepted."),
    )
