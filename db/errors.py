"""The errors of the database layer; each class says what happened and whether a retry helps.

No message or attribute contains the data of a row: PostgreSQL puts whole rows into its error details, and a
row may contain what a caller said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID


class DatabaseError(Exception):
    """Base class; also raised for errors of the server without a class of their own.

    ``retryable`` is True if the same statement may succeed later without any change.
    """

    retryable: ClassVar[bool] = False


class DatabaseUnavailable(DatabaseError):
    """The server cannot be reached, is starting or stopping, or has no free connection; retry later."""

    retryable = True


class DatabaseBusy(DatabaseError):
    """The statement was cancelled (deadlock, lock or statement timeout) and had no effect; retry it."""

    retryable = True


class InvalidValue(DatabaseError):
    """A value is not valid for its column (type, range, format). A retry does not help."""


class ConstraintViolated(DatabaseError):
    """A constraint of the schema refused the row. Functions of this package translate the expected ones."""

    def __init__(self, constraint: str) -> None:
        self.constraint = constraint
        """Name of the constraint or unique index in the schema."""
        super().__init__(f"The row violates the constraint {constraint!r}.")


class MigrationError(DatabaseError):
    """The schema cannot be migrated; an operator must correct this. A retry does not help."""


class NotFound(DatabaseError):
    """There is no such row; rows of other accounts count as missing."""

    def __init__(self, resource: str, id: UUID | str) -> None:
        self.resource = resource
        self.id = id
        where = "" if resource == "account" else " in this account"
        super().__init__(f"There is no {resource} {id}{where}.")


class RevisionConflict(DatabaseError):
    """The row was changed after it was read; read it again before changing it."""

    def __init__(self, resource: str, id: UUID, current: int) -> None:
        self.resource = resource
        self.id = id
        self.current = current
        """The current revision of the row."""
        super().__init__(f"The current revision of {resource} {id} is {current}.")


class NameTaken(DatabaseError):
    """Another row of the account has this name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"The name {name!r} is in use.")


class EmailTaken(DatabaseError):
    """Another user of the account has this e-mail address."""

    def __init__(self) -> None:
        super().__init__("Another user of the account has this e-mail address.")


class LastOwner(DatabaseError):
    """The change would leave the account without an active owner, or without a key of an owner."""

    def __init__(self) -> None:
        super().__init__("The account would have no active owner, or no API key of an owner.")


class NumberTaken(DatabaseError):
    """This account or another one has the number with this carrier; it may be inactive."""

    def __init__(self, carrier: str, e164: str) -> None:
        self.carrier = carrier
        self.e164 = e164
        super().__init__(f"The number {e164} is already in use with {carrier}.")


class NumberNotAssigned(DatabaseError):
    """The operator of the server has not assigned the number to the account."""

    def __init__(self, e164: str) -> None:
        self.e164 = e164
        super().__init__(f"The number {e164} is not assigned to this account.")


class NumberInUse(DatabaseError):
    """Templates use the number; remove it from them first."""

    def __init__(self, template_ids: Sequence[UUID]) -> None:
        self.template_ids = tuple(template_ids)
        super().__init__(f"{len(self.template_ids)} template(s) use the number.")


class OrchestratorExists(DatabaseError):
    """The number has another active orchestrator; a number can have only one."""

    def __init__(self, conflicting_template_id: UUID, name: str) -> None:
        self.conflicting_template_id = conflicting_template_id
        self.name = name
        super().__init__(f"The number is answered by the orchestrator {name!r} ({conflicting_template_id}).")


class TemplateInUse(DatabaseError):
    """Active orchestrators route to the template; change those first."""

    def __init__(self, template_ids: Sequence[UUID]) -> None:
        self.template_ids = tuple(template_ids)
        """The active templates that route to it."""
        super().__init__(f"{len(self.template_ids)} active template(s) route to this one.")


class TargetsUnavailable(DatabaseError):
    """The template cannot be active: some of its targets are missing, not active or not of kind agent."""

    def __init__(self, template_ids: Sequence[UUID]) -> None:
        self.template_ids = tuple(template_ids)
        """Ids of these targets."""
        super().__init__(f"{len(self.template_ids)} target(s) cannot be routed to.")


class UnknownNumber(DatabaseError):
    """No account has this number active with this carrier."""

    def __init__(self, carrier: str, e164: str) -> None:
        self.carrier = carrier
        self.e164 = e164
        super().__init__(f"No account has the number {e164} with {carrier}.")


class NoOrchestrator(DatabaseError):
    """The number is known, but no active orchestrator answers it."""

    def __init__(self, number_id: UUID, fallback_number: str | None) -> None:
        self.number_id = number_id
        self.fallback_number = fallback_number
        """Number (E.164) to which such calls are forwarded, or None."""
        super().__init__(f"No active orchestrator answers the number {number_id}.")


class PolicyApplies(DatabaseError):
    """A policy for inbound calls applies, which must be evaluated first."""

    def __init__(self, number_id: UUID) -> None:
        super().__init__(f"The number {number_id} has a policy for inbound calls.")


class TokenRefused(DatabaseError):
    """The token is unknown, expired, already used, or belongs to another call."""

    def __init__(self) -> None:
        super().__init__("The token is not valid for this call.")


class KeyRefused(DatabaseError):
    """The API key is unknown or revoked."""

    def __init__(self) -> None:
        super().__init__("The key is unknown or revoked.")


class SequenceTaken(DatabaseError):
    """Another row of the call has this ``seq``: there are two writers for one call."""

    def __init__(self, resource: str, call_id: UUID, seq: int) -> None:
        self.resource = resource
        self.call_id = call_id
        self.seq = seq
        super().__init__(f"The {resource} with seq {seq} already exists in call {call_id}.")


class IdempotencyKeyReused(DatabaseError):
    """The Idempotency-Key was used for a different request."""

    def __init__(self, existing_id: UUID) -> None:
        self.existing_id = existing_id
        super().__init__(f"The idempotency key was used for another request, which made {existing_id}.")


class GreetingTooLarge(DatabaseError):
    """The audio is larger than the whole cache."""

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(f"The audio has {size} bytes; the cache holds {limit} bytes.")


class BadCursor(DatabaseError):
    """The cursor is not valid for this list."""

    def __init__(self) -> None:
        super().__init__("The cursor is not valid for this list.")
