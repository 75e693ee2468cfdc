"""The routers of the server, in the order in which a request is compared with them."""

from __future__ import annotations

from fastapi import FastAPI

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
    numbers,
    operations,
    operators,
    providers,
    revisions,
    template_sets,
    templates,
    users,
)
from voicebot.api.carriers import media
from voicebot.api.resource_router import API_PREFIX

OPEN_PATHS = (f"{API_PREFIX}/handoffs/stream", f"{API_PREFIX}/templates/schema")
"""The paths that need no API key, or take a token instead."""

_MODULES = (
    media,
    operations,
    console,
    template_sets,
    lead_upload,
    handoff_audio,
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


def install(app: FastAPI) -> None:
    """Add the routes of all routers."""
    for module in _MODULES:
        app.router.routes.extend(module.router.routes)
