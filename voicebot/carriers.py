"""The carriers that this server knows, and those that it uses. A new one is one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from pydantic import create_model

from telephony.carrier import Carrier
from telephony.exotel.carrier import EXOTEL
from telephony.kind import CarrierKind
from telephony.twilio.carrier import TWILIO
from voicebot.config import Settings, Variables

CARRIERS: Mapping[str, CarrierKind] = {kind.name: kind for kind in (TWILIO, EXOTEL)}
"""All carriers, by the name that numbers have."""


def _bases(kind: CarrierKind) -> tuple[type[Variables], ...]:
    return cast("tuple[type[Variables], ...]", (Variables, kind.variables))


_VARIABLES: Mapping[str, type[Variables]] = {
    name: create_model(kind.variables.__name__, __base__=_bases(kind)) for name, kind in CARRIERS.items()
}

VARIABLES: frozenset[type[Variables]] = frozenset(_VARIABLES.values())
"""The environment variables of all carriers."""


def carriers_of(settings: Settings) -> Mapping[str, Carrier]:
    """The carriers with credentials, by name. The webhooks of other carriers are answered with 404.

    Raises:
        pydantic.ValidationError: a variable of a carrier is malformed.
    """
    made = {
        name: kind.carrier(settings.read(_VARIABLES[name]), settings.public_url)
        for name, kind in CARRIERS.items()
    }
    return {name: carrier for name, carrier in made.items() if carrier is not None}
