"""Requests that are not valid, as problems with a JSON pointer for each fault."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from templates.problem import pointer
from voicebot.api.problems import ApiProblem, FieldError

MAX_FAULTS = 100
"""How many faults of a request are answered."""

_YEARS = (1970, 9998)
_DATE = re.compile(r"\s*[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _require_date(value: object) -> object:
    # In a query string a number is text.
    if isinstance(value, int | float) or (isinstance(value, str) and not _DATE.match(value)):
        raise ValueError("must be an RFC 3339 date and time, such as 2026-01-31T09:00:00Z")
    return value


def _require_near(moment: datetime) -> datetime:
    # The offset of a moment at either end of the calendar leads out of it.
    if not _YEARS[0] <= moment.year <= _YEARS[1]:
        raise ValueError(f"must be in the years {_YEARS[0]} to {_YEARS[1]}")
    return moment


Moment = Annotated[AwareDatetime, BeforeValidator(_require_date), AfterValidator(_require_near)]
"""An RFC 3339 date and time with an offset. A number is refused: it could mean seconds or milliseconds."""

_PLACES = {"body": "request body", "query": "query", "header": "request headers", "cookie": "cookies"}
_CODES = {"missing": "missing_field", "extra_forbidden": "unknown_field"}
_REMEDIES = {"missing": "Add a value.", "extra_forbidden": "Remove it, or correct its spelling."}


def invalid_body(faults: Sequence[Mapping[str, Any]]) -> ApiProblem:
    """The problem of a body that FastAPI has not validated; ``faults`` are pydantic's."""
    return ApiProblem(
        "invalid_request",
        "The request body is not valid.",
        errors=[_fault(details["loc"], details) for details in faults[:MAX_FAULTS]],
    )


def invalid_request(error: RequestValidationError) -> ApiProblem:
    """The problem of a request that FastAPI has refused. A malformed id in the path is answered with 404."""
    details: Sequence[Mapping[str, Any]] = error.errors()
    if any(each["type"] == "json_invalid" for each in details):
        return ApiProblem("invalid_json", "The request body is not valid JSON.")
    faults = [each for each in details if each["loc"][0] != "path"]
    if not faults:
        return ApiProblem("not_found", "There is no resource with this id.")
    places = sorted({_PLACES.get(each["loc"][0], "request") for each in faults})
    return ApiProblem(
        "invalid_request",
        f"The {' and the '.join(places)} {'is' if len(places) == 1 else 'are'} not valid.",
        errors=[_fault(each["loc"][1:], each) for each in faults[:MAX_FAULTS]],
    )


def _fault(place: tuple[str | int, ...], details: Mapping[str, Any]) -> FieldError:
    kind = str(details["type"])
    return FieldError(
        pointer=pointer(*place),
        code=_CODES.get(kind, "invalid_value"),
        message=str(details["msg"]),
        remedy=_REMEDIES.get(kind, "See /docs for the accepted values."),
    )
