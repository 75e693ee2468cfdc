"""The routers of the server, in the order in which a request is compared with them."""

from __future__ import annotations

from fastapi import Depends, FastAPI

from voicebot.api import (
    accounts,
    audit,
    calls,
    channels,
    chat,
    console,
    dispatch,
    handoff_audio,
    handoff_metrics,
    handoff_stream,
    handoffs,
    keys,
    lead_upload,
    leads,
    media,
    numbers,
    operations,
    operators,
    providers,
    revisions,
    template_sets,
    templates,
    users,
)
from voicebot.api.media_types import json_only

API_PREFIX = "/api/v1"

OPEN_PATHS = (f"{API_PREFIX}/handoffs/stream", f"{API_PREFIX}/templates/schema")
"""The paths that need no API key, or take a token instead."""

_RESOURCES = (
    templates,
    revisions,
    chat,
    numbers,
    leads,
    dispatch,
    accounts,
    calls,
    handoff_stream,
    handoffs,
    operators,
    users,
    keys,
    channels,
    handoff_metrics,
    audit,
    providers,
)

_NOT_ONLY_JSON = (template_sets, lead_upload, handoff_audio)
"""They accept YAML, CSV, and a WebSocket."""


def install(app: FastAPI) -> None:
    """Add all routers, each to the application: FastAPI compiles routes again at each level of routers."""
    for router in (media, operations, console):
        app.include_router(router.router)
    for resource in _NOT_ONLY_JSON:
        app.include_router(resource.router, prefix=API_PREFIX)
    for resource in _RESOURCES:
        app.include_router(resource.router, prefix=API_PREFIX, dependencies=[Depends(json_only)])
