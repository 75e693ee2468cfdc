"""Errors as the API tells them: RFC 9457 problem documents, one shape for everything that goes wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

MEDIA_TYPE = "application/problem+json"


class FieldError(BaseModel):
    """One thing that is wrong with a request."""

    model_config = ConfigDict(frozen=True)

    pointer: str = Field(
        description="JSON pointer (RFC 6901) into the body, or `/name` of a query parameter."
    )
    code: str = Field(description="Stable identifier of the rule.")
    message: str = Field(description="What is wrong.")
    remedy: str = Field(description="What to do about it.")


class ProblemDocument(BaseModel):
    """RFC 9457 problem details; some codes add a member (`conflicting_template_id`, `template_ids`, …)."""

    model_config = ConfigDict(extra="allow", title="Problem")

    type: str = Field(description="`urn:voicebot:problem:` and the code.")
    title: str = Field(description="The kind of problem, the same for every occurrence.")
    status: int = Field(description="The HTTP status again.")
    code: str = Field(description="Stable identifier to decide by.", examples=["not_found"])
    detail: str = Field(description="This occurrence, for people.")
    retryable: bool = Field(description="Whether the same request may succeed later.")
    errors: list[FieldError] = Field(default_factory=list, description="Each fault of the request.")


@dataclass(frozen=True, slots=True)
class Kind:
    """What all problems of one code have in common."""

    status: int
    title: str
    retryable: bool = False


KINDS: Mapping[str, Kind] = {
    "invalid_json": Kind(400, "The body is not JSON"),
    "invalid_yaml": Kind(400, "The body is not YAML as it is read here"),
    "invalid_webhook": Kind(400, "The webhook lacks something"),
    "unauthorized": Kind(401, "A valid API key is needed"),
    "forbidden": Kind(403, "The key's role does not allow this"),
    "not_found": Kind(404, "There is nothing here"),
    "method_not_allowed": Kind(405, "The method is not allowed here"),
    "orchestrator_exists": Kind(409, "The number has an active orchestrator"),
    "template_in_use": Kind(409, "Active templates route to the template"),
    "name_taken": Kind(409, "The name is taken"),
    "already_claimed": Kind(409, "Another operator holds the handoff"),
    "stale_claim": Kind(409, "The claim has ended"),
    "capacity_reached": Kind(409, "Operator capacity reached"),
    "illegal_move": Kind(409, "The present state does not allow this"),
    "email_taken": Kind(409, "Another user has the address"),
    "chat_not_here": Kind(409, "The conversation is not held here"),
    "chat_busy": Kind(409, "The conversation is taking another turn", retryable=True),
    "number_taken": Kind(409, "The number is in use"),
    "number_in_use": Kind(409, "Templates are attached to the number"),
    "precondition_failed": Kind(412, "It has changed since it was read"),
    "payload_too_large": Kind(413, "The request is too large"),
    "unsupported_media_type": Kind(415, "The body's media type is not supported"),
    "invalid_request": Kind(422, "The request is not valid"),
    "invalid_template": Kind(422, "The template is not valid"),
    "invalid_payload": Kind(422, "The payload does not fit the template"),
    "idempotency_key_reused": Kind(422, "The Idempotency-Key was used for another request"),
    "precondition_required": Kind(428, "If-Match is needed"),
    "rate_limited": Kind(429, "Too much at once", retryable=True),
    "internal_error": Kind(500, "Something went wrong on our side", retryable=True),
    "carrier_failed": Kind(502, "The carrier refused or could not be reached", retryable=True),
    "database_busy": Kind(503, "The database is busy", retryable=True),
    "database_unavailable": Kind(503, "The database cannot be reached", retryable=True),
    "model_timeout": Kind(504, "The language model did not answer in time", retryable=True),
}
"""Every code that this API answers with."""


@dataclass(slots=True)
class ApiProblem(Exception):
    """A request that cannot be fulfilled; told to the client as it stands."""

    code: str
    detail: str
    errors: Sequence[FieldError] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    """Members of this code, as JSON values."""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """What is common to the code."""
        return KINDS[self.code]

    def document(self) -> dict[str, Any]:
        """The body of the answer."""
        return {
            "type": f"urn:voicebot:problem:{self.code}",
            "title": self.kind.title,
            "status": self.kind.status,
            "code": self.code,
            "detail": self.detail,
            "retryable": self.kind.retryable,
            "errors": [error.model_dump() for error in self.errors],
            **self.more,
        }

    def response(self) -> JSONResponse:
        """The answer."""
        return JSONResponse(
            self.document(), self.kind.status, headers=dict(self.headers), media_type=MEDIA_TYPE
        )
