"""The pages of ``voicebot/console``, as static files."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from voicebot.api.problems import ApiProblem

router = APIRouter(prefix="/console", include_in_schema=False)

_TYPES: Mapping[str, str] = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-cache",
    # Only scripts of this server run, and they connect only to this server.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_FILES: Mapping[str, bytes] = {
    file.name: file.read_bytes()
    for file in files("voicebot.console").joinpath("static").iterdir()
    if file.name.rpartition(".")[2] in _TYPES
}


@router.get("")
async def console() -> RedirectResponse:
    """The page on which an operator takes a call over."""
    return RedirectResponse("/console/takeover.html")


@router.get("/{name}")
async def page(name: str) -> Response:
    """One file of a page."""
    content = _FILES.get(name)
    if content is None:
        raise ApiProblem("not_found", "There is no such page.")
    media_type = f"{_TYPES[name.rpartition('.')[2]]}; charset=utf-8"
    return Response(content, media_type=media_type, headers=dict(_HEADERS))
