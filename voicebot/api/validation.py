"""Requests that are not valid, as problems with a JSON pointer for each fault."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Annotated, Any
from zoneinfo import available_timezones

from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

from templates.problem import in_words_of_json, pointer
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.authoring import json_fault

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

_ZONES = available_timezones() - {"Factory", "localtime", "posixrules"}  # of the machine, or of nobody

_ZONE_OF = {zone.rpartition("/")[2].casefold(): zone for zone in sorted(_ZONES, key=len, reverse=True)} | {
    zone.casefold(): zone for zone in _ZONES
}
"""Zones by their names and by their cities, in lower case."""

_CITIES: dict[str, list[str]] = {}
"""The cities by their first two letters."""
for _name in _ZONE_OF:
    if "/" not in _name:
        _CITIES.setdefault(_name[:2], []).append(_name)
_LONGEST = max(map(len, _ZONE_OF))


def _similar_zone(name: str) -> str | None:
    """The zone that an unknown name may stand for.

    A list of 200 leads may have as many wrong names: each is compared only with cities that begin like it.
    """
    written = name.strip().replace(" ", "_").casefold()
    if written in _ZONE_OF:
        return _ZONE_OF[written]
    city = written.rpartition("/")[2][:_LONGEST]
    near = get_close_matches(city, _CITIES.get(city[:2], ()), n=1, cutoff=0.7)
    return _ZONE_OF[near[0]] if near else None


def _known_zone(name: str) -> str:
    if name not in _ZONES:
        zone = _similar_zone(name)
        hint = f" Did you mean {zone!r}?" if zone else ""
        raise ValueError(f"{name!r} is not a time zone of the IANA database, such as Europe/Berlin.{hint}")
    return name


TimeZone = Annotated[str, AfterValidator(_known_zone), Field(max_length=64, examples=["Europe/Berlin"])]
"""The name of a time zone in the IANA database."""

_PLACES = {"body": "request body", "query": "query", "header": "request headers", "cookie": "cookies"}
_CODES = {"missing": "missing_field", "extra_forbidden": "unknown_field"}
_REMEDIES = {
    "missing": "Add a value.",
    "extra_forbidden": "Remove it, or correct its spelling.",
    "literal_error": "Use one of the values that the message lists.",
    "enum": "Use one of the values that the message lists.",
    "value_error": "Correct the value as the message says.",
    "string_pattern_mismatch": "Write it in the form that the message names.",
    "string_too_long": "Shorten it to the length that the message names.",
    "string_too_short": "Write at least as many characters as the message names.",
    "timezone_aware": "Add the offset, such as Z or +02:00.",
}
_KIND_REMEDIES = {
    "type": "Send a value of the type that the message names.",
    "parsing": "Send a value of the type that the message names.",
    "equal": "Send a value within the range that the message names.",
    "than": "Send a value within the range that the message names.",
    "long": "Send no more items than the message names.",
    "short": "Send as many items as the message names.",
}
_REMEDY = "Send a value that the message allows."
_E164_BEGINS = r"^\+[1-9]"


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
        return not_json(_json_fault(error))
    faults = [each for each in details if each["loc"][0] != "path"]
    if not faults:
        return ApiProblem("not_found", "There is no resource with this id.")
    places = sorted({_PLACES.get(each["loc"][0], "request") for each in faults})
    return ApiProblem(
        "invalid_request",
        f"The {' and the '.join(places)} {'is' if len(places) == 1 else 'are'} not valid.",
        errors=[_fault(each["loc"][1:], each) for each in faults[:MAX_FAULTS]],
    )


def not_json(where: str) -> ApiProblem:
    """The problem of a body that is not JSON; ``where`` says what is wrong at which line and column."""
    remedy = "Correct the JSON at this place."
    fault = FieldError(pointer="", code="invalid_json", message=where, remedy=remedy)
    return ApiProblem("invalid_json", f"The request body is not valid JSON. {where}", errors=[fault])


def _json_fault(error: RequestValidationError) -> str:
    try:
        json.loads(error.body)
    except json.JSONDecodeError as fault:
        return json_fault(fault)
    except (TypeError, ValueError, RecursionError):
        pass
    return "It is not JSON in UTF-8."


def _fault(place: tuple[str | int, ...], details: Mapping[str, Any]) -> FieldError:
    kind = str(details["type"])
    message = in_words_of_json(str(details["msg"]))
    remedy = _REMEDIES.get(kind) or _KIND_REMEDIES.get(kind.rpartition("_")[2], _REMEDY)
    if kind == "string_pattern_mismatch" and str(details["ctx"]["pattern"]).startswith(_E164_BEGINS):
        message = "This is not a telephone number in E.164."
        remedy = "Write `+`, country code and number without spaces or a leading zero: +14155550100."
    return FieldError(
        pointer=pointer(*place), code=_CODES.get(kind, "invalid_value"), message=message, remedy=remedy
    )
