"""What the desk refuses, as problem documents."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from voicebot.api.problems import ApiProblem
from voicebot.availability import IllegalMove
from voicebot.handoffs.errors import AlreadyClaimed, CapacityReached, StaleClaim
from voicebot.handoffs.transitions import IllegalTransition

_REFUSALS = (AlreadyClaimed, StaleClaim, CapacityReached, IllegalTransition, IllegalMove)


def install(app: FastAPI) -> None:
    """Have every refusal of the desk answered as a problem document."""
    for refusal in _REFUSALS:
        app.add_exception_handler(refusal, _answer)


def of_desk(error: Exception) -> ApiProblem:
    """A refusal by the names of the API."""
    match error:
        case AlreadyClaimed():
            return ApiProblem("already_claimed", str(error), more={"claimed_by": str(error.claimed_by)})
        case StaleClaim():
            holder = None if error.claimed_by is None else str(error.claimed_by)
            return ApiProblem("stale_claim", str(error), more={"claimed_by": holder, "epoch": error.epoch})
        case CapacityReached():
            return ApiProblem("capacity_reached", str(error), more={"capacity": error.capacity})
        case IllegalTransition() | IllegalMove():
            more = {"state": error.state, "allowed": list(error.allowed)}
            return ApiProblem("illegal_move", str(error), more=more)
        case _:
            raise error


def _answer(_: Request, error: Exception) -> Response:
    return of_desk(error).response()
