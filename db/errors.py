"""What the database can answer besides a result; each class says what happened and whether a retry helps.

No message or argument here carries a row's contents: PostgreSQL puts whole rows into its error details, and a
row may hold what a caller said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID


class DatabaseError(Exception):
    """The database refused a statement in a way that has no name of its own.

    ``retryable`` is true when the same statement may succeed later without anybody changing anything.
    """

    retryable: ClassVar[bool] = False


class DatabaseUnavailable(DatabaseError):
    """The server cannot be reached, is starting, stopping or out of connections; try again shortly."""

    retryable = True


class DatabaseBusy(DatabaseError):
    """The statement lost to concurrent work (deadlock, lock or statement timeout), did nothing; try again."""

    retryable = True


class InvalidValue(DatabaseError):
    """A value does not fit its column (type, range, format); the same value will be refused again."""


class ConstraintViolated(DatabaseError):
    """A constraint of the schema refused the row; this package's functions translate the ones they know."""

    def __init__(self, constraint: str) -> None:
        self.constraint = constraint
        """The constraint's or unique index's name in the schema."""
        super().__init__(f"The row violates the constraint {constraint!r}.")


class MigrationError(DatabaseError):
    """The schema cannot be brought up to date; a person must look, a retry does not help."""


class NotFound(DatabaseError):
    """There is no such row in this account (another account's row counts as none)."""

    def __init__(self, resource: str, id: UUID | str) -> None:
        self.resource = resource
        self.id = id
        super().__init__(f"There is no {resource} {id} in this account.")


class RevisionConflict(DatabaseError):
    """The row has been changed since it was read; read it again, then decide."""

    def __init__(self, resource: str, id: UUID, current: int) -> None:
        self.resource = resource
        self.id = id
        self.current = current
        """The revision the row has now."""
        super().__init__(f"The {resource} {id} is at revision {current} by now.")


class NameTaken(DatabaseError):
    """Another row of the account has this name already."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"The name {name!r} is taken.")


class EmailTaken(DatabaseError):
    """Another user of the account has this address already."""

    def __init__(self) -> None:
        super().__init__("Another user of the account has this address.")


class NumberTaken(DatabaseError):
    """The number is active already with this carrier, in this account or in another one."""

    def __init__(self, carrier: str, e164: str) -> None:
        self.carrier = carrier
        self.e164 = e164
        super().__init__(f"The number {e164} is in use with {carrier} already.")


class NumberInUse(DatabaseError):
    """Templates are still attached to the number; detach them first."""

    def __init__(self, template_ids: Sequence[UUID]) -> None:
        self.template_ids = tuple(template_ids)
        super().__init__(f"{len(self.template_ids)} template(s) are attached to the number.")


class OrchestratorExists(DatabaseError):
    """The number has an active orchestrator already; a number is answered by one."""

    def __init__(self, conflicting_template_id: UUID, name: str) -> None:
        self.conflicting_template_id = conflicting_template_id
        self.name = name
        super().__init__(f"The number is answered by the orchestrator {name!r} ({conflicting_template_id}).")


class TemplateInUse(DatabaseError):
    """Active orchestrators route to the template; change those first."""

    def __init__(self, template_ids: Sequence[UUID]) -> None:
        self.template_ids = tuple(template_ids)
        """The active templates that refer to it."""
        super().__init__(f"{len(self.template_ids)} active template(s) route to this one.")


class TargetsUnavailable(DatabaseError):
    """The template cannot be active: some of its targets are missing, not active or not of kind agent."""

    def __init__(self, template_ids: Sequence[UUID]) -> None:
        self.template_ids = tuple(template_ids)
        """The targets that cannot be routed to."""
        super().__init__(f"{len(self.template_ids)} target(s) cannot be routed to.")


class UnknownNumber(DatabaseError):
    """No account has this number active with this carrier."""

    def __init__(self, carrier: str, e164: str) -> None:
        self.carrier = carrier
        self.e164 = e164
        super().__init__(f"Nobody answers {e164} with {carrier}.")


class NoOrchestrator(DatabaseError):
    """The number is known, but no active orchestrator answers it."""

    def __init__(self, number_id: UUID, fallback_number: str | None) -> None:
        self.number_id = number_id
        self.fallback_number = fallback_number
        """E.164; where the number's owner wants such calls to go, if anywhere."""
        super().__init__(f"No active orchestrator answers the number {number_id}.")


class TokenRefused(DatabaseError):
    """The token is unknown, expired, used already, or belongs to another call."""

    def __init__(self) -> None:
        super().__init__("The token does not open this call.")


class KeyRefused(DatabaseError):
    """The API key is unknown or revoked."""

    def __init__(self) -> None:
        super().__init__("The key is unknown or revoked.")


class SequenceTaken(DatabaseError):
    """Another row of the call has this ``seq`` already: two writers count for one call."""

    def __init__(self, resource: str, call_id: UUID, seq: int) -> None:
        self.resource = resource
        self.call_id = call_id
        self.seq = seq
        super().__init__(f"The call {call_id} has another {resource} numbered {seq}.")


class IdempotencyKeyReused(DatabaseError):
    """The Idempotency-Key was used before, for a different request."""

    def __init__(self, existing_id: UUID) -> None:
        self.existing_id = existing_id
        super().__init__(f"The idempotency key made {existing_id}, from a different request.")


class GreetingTooLarge(DatabaseError):
    """The audio alone exceeds what the cache may hold."""

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(f"{size} bytes exceed the cache of {limit} bytes.")


class BadCursor(DatabaseError):
    """The cursor did not come from a list of this API."""

    def __init__(self) -> None:
        super().__init__("The cursor is not one this list gave out.")
