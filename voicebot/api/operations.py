"""/healthz, /readyz and /metrics, for the operators of the server."""

from __future__ import annotations

import hmac
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Annotated

from fastapi import APIRouter, Request, Response, Security
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.datastructures import Address

from db.errors import DatabaseError
from voicebot.admission import Refusal
from voicebot.api.access import unauthorized
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.resource_router import name_of
from voicebot.api.worker_forwarding import is_of_worker
from voicebot.config import Settings
from voicebot.metrics import CONTENT_TYPE, merged

router = APIRouter(tags=["operations"], generate_unique_id_function=name_of)

_OTHER_METRICS_S = 2.0
"""How long another worker may take; one that takes longer is left out."""

_METRICS_TOKEN = HTTPBearer(
    auto_error=False, scheme_name="metrics", description="The token `VOICEBOT_METRICS_TOKEN`."
)


class Health(BaseModel):
    """The state of the process."""

    status: str


class Readiness(BaseModel):
    """Whether the server can take calls, and why not."""

    ready: bool
    database: bool
    draining: bool
    full: Refusal | None
    calls_live: int


@router.get("/healthz")
async def healthz() -> Health:
    """The process responds. The database is not asked, because a restart would not help it."""
    return Health(status="ok")


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
async def readyz(app_state: AppStateDep) -> Response:
    """Whether the server can take calls: the database responds, and it is not shutting down and not full.

    `full` is `max_calls` (it has as many calls as it may have), `late` (its event loop is late) or null.
    `full` and `calls_live` are those of all worker processes together.
    """
    reachable, full = await _reachable(app_state), app_state.admission.refusal()
    state = Readiness(
        ready=reachable and not app_state.draining and full is None,
        database=reachable,
        draining=app_state.draining,
        full=full,
        calls_live=app_state.admission.live,
    )
    return JSONResponse(state.model_dump(), 200 if state.ready else 503)


@router.get("/", include_in_schema=False)
async def root() -> RedirectResponse:
    """The documentation of the API."""
    return RedirectResponse("/docs")


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, 401: {"description": "The token is missing or wrong."}},
    # Next to the token's scheme, `{}` makes authentication optional.
    openapi_extra={"security": [{}]},
)
async def metrics(
    app_state: AppStateDep,
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_METRICS_TOKEN)] = None,
) -> Response:
    """Metrics of all worker processes in Prometheus' text format.

    They need the token `VOICEBOT_METRICS_TOKEN`; without that setting, only this machine may read them.
    """
    if not _may_read_metrics(app_state.settings, request.client, credentials):
        raise unauthorized("Send the token VOICEBOT_METRICS_TOKEN as a bearer token.", "")
    own = app_state.metrics.text()
    if is_of_worker(request):
        return Response(own, media_type=CONTENT_TYPE)
    other_workers = app_state.other_workers
    token = {name: request.headers[name] for name in ("authorization",) if name in request.headers}
    others = await other_workers.ask("GET", request.url.path, headers=token, timeout_s=_OTHER_METRICS_S)
    texts = {number: answer.text for number, answer in others.items() if answer.status_code == HTTPStatus.OK}
    worker = other_workers.worker
    text = merged({worker.number: own.decode(), **texts}) if worker.others else own
    return Response(text, media_type=CONTENT_TYPE)


def _may_read_metrics(
    settings: Settings, client: Address | None, credentials: HTTPAuthorizationCredentials | None
) -> bool:
    if settings.metrics_token is None:
        return client is None or _is_loopback(client.host)
    given = "" if credentials is None else credentials.credentials
    return hmac.compare_digest(given.encode(), settings.metrics_token.get_secret_value().encode())


def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


async def _reachable(app_state: AppState) -> bool:
    try:
        await app_state.database.ping()
    except DatabaseError:
        return False
    return True
