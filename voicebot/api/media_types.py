"""A body is JSON and says so; anything else is refused before somebody tries to read it."""

from __future__ import annotations

from fastapi import Request

from voicebot.api.problems import ApiProblem


async def json_only(request: Request) -> None:
    """A dependency: 415 for a body of another media type than JSON (or merge patch, which is JSON)."""
    if not await request.body():
        return
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        accepts = {"Accept-Patch": "application/merge-patch+json", "Accept-Post": "application/json"}
        raise ApiProblem("unsupported_media_type", f"Send JSON, not {kind or 'nothing'!r}.", headers=accepts)
