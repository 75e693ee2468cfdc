"""The carriers that this server knows, and those that it uses. A new one is one line here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, cast

from pydantic import AfterValidator, WithJsonSchema, create_model
from pydantic_core import PydanticKnownError

from telephony.carrier import Carrier
from telephony.exotel.carrier import EXOTEL
from telephony.kind import CarrierKind
from telephony.twilio.carrier import TWILIO
from voicebot.config import Settings, Variables

CARRIERS: Mapping[str, CarrierKind] = {kind.name: kind for kind in (TWILIO, EXOTEL)}
"""All carriers, by the name that numbers have."""

DEFAULT_CARRIER = TWILIO.name
"""The carrier of a number for which none is named; clients rely on it."""


def _known(name: str) -> str:
    if name not in CARRIERS:
        raise PydanticKnownError("literal_error", {"expected": " or ".join(map(repr, CARRIERS))})
    return name


CarrierName = Annotated[
    str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": list(CARRIERS)})
]
"""The name of a carrier in requests and answers of the API."""


@cache
def _variables(kind: CarrierKind) -> type[Variables]:
    """The environment variables of a carrier, with their sources."""
    bases = cast("tuple[type[Variables], ...]", (Variables, kind.variables))
    return create_model(kind.variables.__name__, __base__=bases)


VARIABLES: frozenset[type[Variables]] = frozenset(map(_variables, CARRIERS.values()))
"""The environment variables of all carriers."""


def carriers_of(settings: Settings) -> Mapping[str, Carrier]:
    """The carriers with credentials, by name. The webhooks of other carriers are answered with 404.

    Raises:
        pydantic.ValidationError: a variable of a carrier is malformed.
    """
    made = {
        name: kind.carrier(settings.read(_variables(kind)), settings.public_url)
        for name, kind in CARRIERS.items()
    }
    return {name: carrier for name, carrier in made.items() if carrier is not None}


def without_busy_tone() -> frozenset[str]:
    """Names of the carriers that cannot reject a call with a busy tone."""
    return frozenset(name for name, kind in CARRIERS.items() if not kind.has_busy_tone)
