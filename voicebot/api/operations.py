"""For whoever runs the server: /healthz, /readyz, /metrics."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from db.errors import DatabaseError
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.metrics import CONTENT_TYPE

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """The process answers."""

    status: str


class Readiness(BaseModel):
    """Whether calls can be sent here, and what is missing."""

    ready: bool
    database: bool
    draining: bool
    calls_live: int


@router.get("/healthz")
async def healthz() -> Health:
    """The process lives. Looks at nothing else, so that nobody restarts it for the database's sake."""
    return Health(status="ok")


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
async def readyz(wired: AppStateDep) -> Response:
    """Calls can be taken: the database answers (its schema is current since the start), nobody is leaving."""
    reachable = await _reachable(wired)
    state = Readiness(
        ready=reachable and not wired.draining,
        database=reachable,
        draining=wired.draining,
        calls_live=wired.call_registry.live,
    )
    return JSONResponse(state.model_dump(), 200 if state.ready else 503)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(wired: AppStateDep) -> Response:
    """Figures in Prometheus' text format."""
    return Response(wired.metrics.text(), media_type=CONTENT_TYPE)


async def _reachable(wired: AppState) -> bool:
    try:
        await wired.database.ping()
    except DatabaseError:
        return False
    return True
