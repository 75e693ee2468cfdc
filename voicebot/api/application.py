"""The FastAPI application: middleware, error handlers, routers and the OpenAPI document."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from voicebot.api import error_handlers, routers
from voicebot.api.documentation import describe, serve_document
from voicebot.api.limits import Limits
from voicebot.api.request_checks import RequestChecks
from voicebot.api.resource_router import API_PREFIX


def application(limits: Limits, public_url: str | None, lifespan: Any) -> FastAPI:
    """The application, without the state that its lifespan sets.

    Args:
        limits: what clients may send and hold open.
        public_url: the address of the server, for the document; None: unknown.
        lifespan: FastAPI's: opens the parts of the server, and closes them.
    """
    app = FastAPIOffline(
        title="voicebot",
        version=version("voicebot"),
        summary="Voice agents for phone calls that are routed mid-call between authored agents.",
        lifespan=lifespan,
        redirect_slashes=False,
        redoc_url=None,
        static_url="/docs-assets",
    )
    app.add_middleware(RequestChecks, limits=limits, api_prefix=API_PREFIX, open_paths=routers.OPEN_PATHS)
    error_handlers.install(app)
    routers.install(app)
    describe(app, public_url)
    serve_document(app)
    return app
