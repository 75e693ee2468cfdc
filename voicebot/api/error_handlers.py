"""Exception handlers: every exception of a request is answered as a problem document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from loguru import logger
from starlette.exceptions import HTTPException
from starlette.types import Scope

from db.errors import (
    BadCursor,
    DatabaseBusy,
    DatabaseError,
    DatabaseUnavailable,
    EmailTaken,
    IdempotencyKeyReused,
    InvalidValue,
    LastOwner,
    NameTaken,
    NotFound,
    NumberInUse,
    NumberNotAssigned,
    NumberTaken,
    OrchestratorExists,
    RevisionConflict,
    TemplateInUse,
)
from voicebot.api.app_state import AppState
from voicebot.api.limits import limit_exceeded
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.api.validation import invalid_request, not_json
from voicebot.authoring import InvalidJson, InvalidTemplate, TooManyChecks
from voicebot.availability import IllegalMove
from voicebot.handoffs.bridge import NotDialable
from voicebot.handoffs.transitions import AlreadyClaimed, CapacityReached, IllegalTransition, StaleClaim

RETRY_AFTER_S = 2

_BY_STATUS = {
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
}


def install(app: FastAPI) -> None:
    """Install the handlers."""
    for kind in _PROBLEMS:
        app.add_exception_handler(kind, _answer)
    app.add_exception_handler(Exception, unexpected)


def problem_of(error: Exception) -> ApiProblem | None:
    """The problem document for an exception of a request; None: the exception is unexpected."""
    translate = next((_PROBLEMS[kind] for kind in type(error).__mro__ if kind in _PROBLEMS), None)
    return None if translate is None else translate(error)


def response_to(problem: ApiProblem, scope: Scope) -> Response:
    """The response to a refused request, which is counted if it exceeds a limit."""
    if problem.limit is not None:
        app_state: AppState = scope["app"].state.app_state
        app_state.metrics.limit_reached.labels(problem.limit).inc()
    return problem.response()


def _answer(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem is None:
        raise error
    return response_to(problem, request.scope)


def of_template(error: InvalidTemplate) -> ApiProblem:
    """The problem of a template that cannot be saved, with all its faults."""
    return ApiProblem(
        "invalid_template",
        str(error),
        errors=[FieldError(**problem.to_json()) for problem in error.problems],
    )


def of_json(error: InvalidJson) -> ApiProblem:
    """The problem of a body that is not JSON."""
    return not_json(str(error))


def of_checks(error: TooManyChecks) -> ApiProblem:
    """The problem of a check for which there is no time."""
    return limit_exceeded("checks", "rate_limited", str(error), retry_after_s=RETRY_AFTER_S)


def of_handoff(error: Exception) -> ApiProblem:
    """The problem of a refused claim, handoff transition or change of presence."""
    match error:
        case AlreadyClaimed():
            return ApiProblem("already_claimed", str(error), more={"claimed_by": str(error.claimed_by)})
        case StaleClaim():
            claimed_by = None if error.claimed_by is None else str(error.claimed_by)
            return ApiProblem(
                "stale_claim", str(error), more={"claimed_by": claimed_by, "epoch": error.epoch}
            )
        case CapacityReached():
            return ApiProblem("capacity_reached", str(error), more={"capacity": error.capacity})
        case NotDialable():
            return ApiProblem("illegal_move", str(error))
        case IllegalTransition() | IllegalMove():
            more = {"state": error.state, "allowed": list(error.allowed)}
            return ApiProblem("illegal_move", str(error), more=more)
        case _:
            raise error


def of_database(error: DatabaseError) -> ApiProblem:
    """The problem of an error of the database."""
    retry = {"Retry-After": str(RETRY_AFTER_S)}
    match error:
        case NotFound():
            return ApiProblem("not_found", str(error))
        case RevisionConflict():
            return ApiProblem("precondition_failed", str(error), headers={"ETag": f'"{error.current}"'})
        case OrchestratorExists():
            return _orchestrator_exists(error)
        case TemplateInUse():
            used_by = [str(template_id) for template_id in error.template_ids]
            return ApiProblem("template_in_use", str(error), more={"template_ids": used_by})
        case DatabaseUnavailable():
            return ApiProblem("database_unavailable", "Try again shortly.", headers=retry)
        case DatabaseBusy():
            return ApiProblem("database_busy", "Try again shortly.", headers=retry)
        case _:
            return _of_refusal(error)


def _orchestrator_exists(error: OrchestratorExists) -> ApiProblem:
    return ApiProblem(
        "orchestrator_exists",
        str(error),
        errors=[
            _fault(
                "/number_id", "orchestrator_exists", str(error), "Deactivate the other orchestrator first."
            )
        ],
        more={"conflicting_template_id": str(error.conflicting_template_id)},
    )


def _of_refusal(error: DatabaseError) -> ApiProblem:
    match error:
        case NameTaken():
            fault = _fault("/name", "name_taken", str(error), "Choose another name.")
            return ApiProblem("name_taken", str(error), errors=[fault])
        case LastOwner():
            return ApiProblem("last_owner", f"{error} Make another user an owner, with a key, first.")
        case NumberNotAssigned():
            remedy = "Ask the operator of this server to assign it (voicebot numbers assign)."
            fault = _fault("/e164", "number_not_assigned", str(error), remedy)
            return ApiProblem("number_not_assigned", str(error), errors=[fault])
        case NumberTaken():
            fault = _fault(
                "/e164",
                "number_taken",
                str(error),
                "Delete it in the account that has it, or add another number.",
            )
            return ApiProblem("number_taken", str(error), errors=[fault])
        case EmailTaken():
            fault = _fault("/email", "email_taken", str(error), "Use another address.")
            return ApiProblem("email_taken", str(error), errors=[fault])
        case NumberInUse():
            attached = [str(template_id) for template_id in error.template_ids]
            return ApiProblem("number_in_use", str(error), more={"template_ids": attached})
        case IdempotencyKeyReused():
            return ApiProblem("idempotency_key_reused", str(error))
        case BadCursor():
            fault = _fault("/cursor", "invalid_cursor", str(error), "Use `next_cursor` of the previous page.")
            return ApiProblem("invalid_request", "The query is not valid.", errors=[fault])
        case InvalidValue():
            return ApiProblem("invalid_request", str(error))
        case _:
            logger.error("the database refused a request: {}: {}", type(error).__name__, error)
            return ApiProblem("internal_error", "The database refused the request.")


def of_http(error: HTTPException) -> ApiProblem:
    """The problem of a request that the framework refuses, such as one of an unknown path."""
    code = _BY_STATUS.get(error.status_code)
    if code is None:
        code = "invalid_request" if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR else "internal_error"
    return ApiProblem(code, str(error.detail), headers=error.headers or {})


def unexpected(request: Request, error: Exception) -> Response:
    """The response to a request that failed with an unexpected exception.

    The server logs the traceback; the client gets no details of the implementation.
    """
    logger.error("{} {} failed: {}", request.method, request.url.path, type(error).__name__)
    return ApiProblem(
        "internal_error",
        "The error was logged. Try again; if it persists, contact the operators of the server.",
    ).response()


def _fault(place: str, code: str, message: str, remedy: str) -> FieldError:
    return FieldError(pointer=place, code=code, message=message, remedy=remedy)


_PROBLEMS: Mapping[type[Exception], Callable[[Any], ApiProblem]] = {
    ApiProblem: lambda problem: problem,
    InvalidTemplate: of_template,
    InvalidJson: of_json,
    TooManyChecks: of_checks,
    DatabaseError: of_database,
    **dict.fromkeys(
        (AlreadyClaimed, StaleClaim, CapacityReached, IllegalTransition, IllegalMove, NotDialable), of_handoff
    ),
    RequestValidationError: invalid_request,
    HTTPException: of_http,
}
"""The function that makes the problem of each exception class; it applies to subclasses too."""
