"""The carriers that this server supports, and those that are configured. A new one is one line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, cast

from pydantic import AfterValidator, WithJsonSchema, create_model
from pydantic_core import PydanticKnownError

from telephony.bridge import BridgeCarrier
from telephony.carrier import Carrier
from telephony.exotel.carrier import EXOTEL
from telephony.kind import CarrierKind
from telephony.twilio.carrier import TWILIO
from templates.check import CarrierRules
from voicebot.config import Settings, Variables, fingerprint

CARRIERS: Mapping[str, CarrierKind] = {kind.name: kind for kind in (TWILIO, EXOTEL)}
"""All carriers, by the name that numbers have."""

DEFAULT_CARRIER = TWILIO.name
"""The carrier of a number that names none; clients rely on it."""


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


def credentials_of(settings: Settings) -> Mapping[str, str]:
    """What tells the credentials of each carrier apart from others, without showing them."""
    found = {}
    for name, kind in CARRIERS.items():
        values = [settings.secret(variable) for variable in kind.credentials]
        found[name] = f"{kind.credentials[0]}:{fingerprint(*values)}"
    return found


def unset(settings: Settings, names: Sequence[str]) -> list[str]:
    """The given environment variables that have no value."""
    values = {name: settings.secret(name) for name in names}
    return [name for name, value in values.items() if not (value and value.get_secret_value())]


def rules_of(settings: Settings, carriers: Mapping[str, Carrier]) -> Mapping[str, CarrierRules]:
    """What the calls of each carrier can do, for the check; `carriers` are those with credentials."""
    return {
        name: CarrierRules(
            has_busy_tone=kind.has_busy_tone,
            has_attended_transfers=name not in carriers or isinstance(carriers[name], BridgeCarrier),
            missing_to_transfer=()
            if unset(settings, kind.to_place_calls)
            else tuple(unset(settings, kind.to_transfer_dialled)),
        )
        for name, kind in CARRIERS.items()
    }
