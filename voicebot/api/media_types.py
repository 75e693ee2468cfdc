"""Media types of request bodies: JSON and merge patch, and YAML for files. Others get 415."""

from __future__ import annotations

from fastapi import Request
from starlette.requests import HTTPConnection

from voicebot.api.problems import ApiProblem, FieldError
from voicebot.authoring import JsonText

MERGE_PATCH = "application/merge-patch+json"
"""RFC 7396."""
YAML = "application/yaml"
"""RFC 9512."""

_YAML = (YAML, "application/x-yaml", "text/yaml", "text/x-yaml")


async def json_only(request: Request) -> None:
    """A dependency: 415 for a body of another media type than JSON (merge patch included)."""
    if not await request.body():
        return
    kind = _kind(request)
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        accepts = {"Accept-Patch": MERGE_PATCH, "Accept-Post": "application/json"}
        raise ApiProblem(
            "unsupported_media_type", f"Send JSON; the media type {kind!r} is not supported.", headers=accepts
        )


async def json_text(request: Request) -> JsonText:
    """A dependency: the body, which is not parsed here; 422 without one."""
    body = await request.body()
    if not body:
        missing = FieldError(
            pointer="", code="missing_field", message="Field required", remedy="Send a JSON document."
        )
        raise ApiProblem("invalid_request", "The request has no body.", errors=[missing])
    return JsonText(body)


async def json_or_yaml(request: Request) -> None:
    """A dependency: 415 for a body that is neither JSON nor YAML."""
    if not is_yaml(request):
        await json_only(request)


def is_yaml(request: HTTPConnection) -> bool:
    """Whether the request declares its body as YAML."""
    return _kind(request) in _YAML


def prefers_yaml(request: Request) -> bool:
    """Whether the client prefers YAML to JSON (RFC 9110 section 12.5.1)."""
    weights: dict[str, float] = {}
    for part in request.headers.get("Accept", "").lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        weights[kind] = _weight(parameters)
    others = [weights[kind] for kind in ("application/json", "application/*", "*/*") if kind in weights]
    return max(weights.get(kind, 0.0) for kind in _YAML) > (others[0] if others else 0.0)


def _weight(parameters: list[str]) -> float:
    for each in parameters:
        name, _, value = each.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _kind(request: HTTPConnection) -> str:
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
