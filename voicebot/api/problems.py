"""Errors of the API: RFC 9457 problem documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

MEDIA_TYPE = "application/problem+json"


class FieldError(BaseModel):
    """One fault of a request."""

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
    status: int = Field(description="The HTTP status.")
    code: str = Field(description="Stable identifier of the kind of problem.", examples=["not_found"])
    detail: str = Field(description="What is wrong in this case, for people.")
    retryable: bool = Field(description="Whether the same request may succeed later.")
    errors: list[FieldError] = Field(default_factory=list, description="Each fault of the request.")


@dataclass(frozen=True, slots=True)
class Kind:
    """What all problems with the same code share."""

    status: int
    title: str
    retryable: bool = False


KINDS: Mapping[str, Kind] = {
    "invalid_json": Kind(400, "The body is not JSON"),
    "invalid_yaml": Kind(400, "The body is not YAML of the supported subset"),
    "invalid_webhook": Kind(400, "The webhook lacks a parameter"),
    "unauthorized": Kind(401, "A valid API key is required"),
    "forbidden": Kind(403, "The key's role does not allow this"),
    "not_found": Kind(404, "The resource does not exist"),
    "method_not_allowed": Kind(405, "The method is not allowed for this path"),
    "request_timeout": Kind(408, "The request was not sent in time", retryable=True),
    "orchestrator_exists": Kind(409, "The number has an active orchestrator"),
    "template_in_use": Kind(409, "Active templates route to the template"),
    "name_taken": Kind(409, "The name is taken"),
    "already_claimed": Kind(409, "Another operator has claimed the handoff"),
    "stale_claim": Kind(409, "The claim has ended"),
    "capacity_reached": Kind(409, "Operator capacity reached"),
    "illegal_move": Kind(409, "The present state does not allow this"),
    "lead_over": Kind(409, "The lead's status does not allow this"),
    "last_owner": Kind(409, "An account keeps an owner"),
    "email_taken": Kind(409, "Another user has this email address"),
    "chat_not_here": Kind(409, "This server does not have the conversation"),
    "chat_busy": Kind(409, "Another request is using the conversation", retryable=True),
    "number_taken": Kind(409, "The number is in use"),
    "number_not_assigned": Kind(409, "The number is not assigned to the account"),
    "number_in_use": Kind(409, "Templates are attached to the number"),
    "precondition_failed": Kind(412, "The resource has changed since it was read"),
    "payload_too_large": Kind(413, "The request is too large"),
    "uri_too_long": Kind(414, "The path and query are too long"),
    "unsupported_media_type": Kind(415, "The body's media type is not supported"),
    "invalid_request": Kind(422, "The request is not valid"),
    "invalid_template": Kind(422, "The template is not valid"),
    "invalid_payload": Kind(422, "The payload does not fit the template"),
    "idempotency_key_reused": Kind(422, "The Idempotency-Key was used for another request"),
    "precondition_required": Kind(428, "If-Match is required"),
    "rate_limited": Kind(429, "Too many requests", retryable=True),
    "headers_too_large": Kind(431, "The headers are too large"),
    "internal_error": Kind(500, "Internal error", retryable=True),
    "carrier_failed": Kind(502, "The carrier refused or could not be reached", retryable=True),
    "overloaded": Kind(503, "The server has too many connections", retryable=True),
    "database_busy": Kind(503, "The database is busy", retryable=True),
    "database_unavailable": Kind(503, "The database cannot be reached", retryable=True),
    "model_timeout": Kind(504, "The language model did not answer in time", retryable=True),
}
"""Every code of this API."""


@dataclass(slots=True)
class ApiProblem(Exception):
    """A refused request. All of it is sent to the client."""

    code: str
    detail: str
    errors: Sequence[FieldError] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    """Additional members of the document, as JSON values."""
    headers: Mapping[str, str] = field(default_factory=dict)
    limit: str | None = None
    """The limit that the request exceeds (``voicebot.api.limits.Limit``), for the metrics."""

    @property
    def kind(self) -> Kind:
        """The kind of problem."""
        return KINDS[self.code]

    def document(self) -> dict[str, Any]:
        """The response body."""
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
        """The response."""
        return JSONResponse(
            self.document(), self.kind.status, headers=dict(self.headers), media_type=MEDIA_TYPE
        )
