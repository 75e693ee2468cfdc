"""/healthz, /readyz and /metrics, for the operators of the server."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from db.errors import DatabaseError
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.metrics import CONTENT_TYPE

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """The state of the process."""

    status: str


class Readiness(BaseModel):
    """Whether the server can take calls, and why not."""

    ready: bool
    database: bool
    draining: bool
    calls_live: int


@router.get("/healthz")
async def healthz() -> Health:
    """The process responds. The database is not asked, because a restart would not help it."""
    return Health(status="ok")


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
async def readyz(app_state: AppStateDep) -> Response:
    """Whether the server can take calls: the database responds, and the server is not shutting down."""
    reachable = await _reachable(app_state)
    state = Readiness(
        ready=reachable and not app_state.draining,
        database=reachable,
        draining=app_state.draining,
        calls_live=app_state.call_registry.live,
    )
    return JSONResponse(state.model_dump(), 200 if state.ready else 503)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(app_state: AppStateDep) -> Response:
    """Metrics in Prometheus' text format."""
    return Response(app_state.metrics.text(), media_type=CONTENT_TYPE)


async def _reachable(app_state: AppState) -> bool:
    try:
        await app_state.database.ping()
    except DatabaseError:
        return False
    return True
