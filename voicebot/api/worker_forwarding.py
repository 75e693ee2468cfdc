"""Forwards requests for a call or chat that another worker of this server has in memory."""

from __future__ import annotations

import httpx
from fastapi import Request, Response
from starlette.requests import HTTPConnection

from voicebot.api.app_state import AppState
from voicebot.api.problems import MEDIA_TYPE
from voicebot.other_workers import WORKER_HEADER

_PASSED_ON = ("authorization", "content-type")
_ANSWERED = ("content-type", "retry-after")


def is_of_worker(request: HTTPConnection) -> bool:
    """Whether the request comes from another worker: only workers use the Unix socket."""
    return request.client is None and WORKER_HEADER in request.headers


async def answer_of_other(
    app_state: AppState, request: Request, *, refusal: str, timeout_s: float
) -> Response | None:
    """Forward a request to the other workers and return the answer of the one that has the resource.

    Args:
        app_state: the parts of this worker.
        request: the request; a forwarded request is not forwarded again.
        refusal: the problem code of a worker that does not have the resource.
        timeout_s: how long the answer may take, in seconds.

    Returns:
        None if no other worker has it.
    """
    if is_of_worker(request):
        return None
    answers = await app_state.other_workers.ask(
        request.method,
        request.url.path,
        headers={name: request.headers[name] for name in _PASSED_ON if name in request.headers},
        body=await request.body(),
        timeout_s=timeout_s,
    )
    for answer in answers.values():
        if _code(answer) != refusal:
            headers = {name: answer.headers[name] for name in _ANSWERED if name in answer.headers}
            return Response(answer.content, answer.status_code, headers)
    return None


def _code(answer: httpx.Response) -> str | None:
    """The code of a problem; None: the answer is another one."""
    if answer.headers.get("content-type") != MEDIA_TYPE:
        return None
    code: str = answer.json()["code"]
    return code
