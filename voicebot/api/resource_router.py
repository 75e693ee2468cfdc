"""Routers for the API's resources, whose routes the application takes as they are.

FastAPI analyses a route where it is declared, and once more, for each application, if its router is included
in another one. So a router has its whole prefix here, and `voicebot/api/routers.py` includes none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from starlette.requests import Request

from voicebot.api.media_types import json_only

API_PREFIX = "/api/v1"


def name_of(route: APIRoute) -> str:
    """The id of an operation in the OpenAPI document: the name of its function."""
    return route.name


def resource_router(
    path: str, tag: str, *, media_types: Callable[[Request], Awaitable[None]] | None = json_only
) -> APIRouter:
    """A router for a resource.

    Args:
        path: what the paths of its routes begin with, below ``API_PREFIX``.
        tag: groups its operations in the OpenAPI document.
        media_types: a dependency that refuses bodies of other media types; None: its routes do that.
    """
    return APIRouter(
        prefix=API_PREFIX + path,
        tags=[tag],
        dependencies=[Depends(media_types)] if media_types else [],
        generate_unique_id_function=name_of,
    )
