"""The states of an outbound lead, and the moves between them; ``lead_moves`` has the same table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

OutboundStatus = Literal["queued", "held", "dialing", "in_call", "finished", "cancelled"]
"""``queued``: dialled when it is due; ``held``: not dialled until it is resumed; ``dialing``: an attempt is
under way; ``in_call``: it was answered; the last two are final."""

MOVES: Mapping[OutboundStatus, frozenset[OutboundStatus]] = {
    "queued": frozenset({"held", "dialing", "finished", "cancelled"}),
    "held": frozenset({"queued", "cancelled"}),
    "dialing": frozenset({"in_call", "queued", "finished", "cancelled"}),
    "in_call": frozenset({"queued", "finished", "cancelled"}),
    "finished": frozenset(),
    "cancelled": frozenset(),
}
