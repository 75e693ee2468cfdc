"""`CarrierKind`: the properties of a carrier that do not depend on an account; one in each package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from telephony.carrier import Carrier


def _without_trailing_slash(url: str) -> str:
    return url.rstrip("/")


Url = Annotated[str, Field(pattern=r"^https?://[^/\s]+"), AfterValidator(_without_trailing_slash)]
"""`http(s)://host:port` with an optional path; a trailing slash is removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierKind:
    """A carrier that the server can use.

    Attributes:
        name: the name in number records and in webhook paths.
        variables: the environment variables of an account, each named by its field's alias.
        carrier: makes the carrier of an account, from its variables and the URL at which this server is
            reached (None: that of each request); None if the variables do not suffice to take calls.
        to_take_calls: the variables without which no calls are taken.
        to_place_calls: those that are needed in addition to place calls.
        to_transfer_dialled: those without which calls that it has placed cannot be transferred or connected
            with a person.
        credentials: those that the REST API checks.
        has_busy_tone: whether a call can be rejected with a busy tone.
    """

    name: str
    variables: type[BaseModel]
    carrier: Callable[[Any, str | None], Carrier | None]
    to_take_calls: Sequence[str]
    to_place_calls: Sequence[str] = ()
    to_transfer_dialled: Sequence[str] = ()
    credentials: Sequence[str]
    has_busy_tone: bool
