"""What the desk refuses besides moves that are not in the table, each as a named result of a race."""

from __future__ import annotations

from uuid import UUID

from db.handoffs import HandoffRecord


class AlreadyClaimed(Exception):
    """Somebody else holds the handoff; a retry helps only if they let go."""

    def __init__(self, claimed_by: UUID) -> None:
        self.claimed_by = claimed_by
        super().__init__(f"The handoff is claimed by {claimed_by}.")


class StaleClaim(Exception):
    """The claim has ended since, and its writes count no more; look at the handoff, do not retry."""

    def __init__(self, handoff: HandoffRecord) -> None:
        self.claimed_by = handoff.holder_id
        self.epoch = handoff.epoch
        super().__init__("You do not hold this claim any more.")


class CapacityReached(Exception):
    """The operator holds as many handoffs as they may; release or resolve one first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        super().__init__(f"You hold {capacity} handoffs, which is as many as you may.")
