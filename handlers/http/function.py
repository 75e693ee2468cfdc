"""HTTP functions on a call: schema for the model, validation of arguments, and the request.

A request that has been sent is never cancelled. It runs in its own task, and the function call only waits for
the task. When the caller interrupts, pipecat cancels the waiting and tells the model that the function was
cancelled; the request continues. When the model calls the function again with the same request, it gets the
result of the running or finished request, so that nothing is done twice. pipecat's asynchronous tools are not
used: they would let the agent speak without the result and lengthen every system prompt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from loguru import logger

from handlers.context import CallContext
from handlers.http.answer import read, result_for_model, values_to_keep
from handlers.http.errors import (
    SAFE_METHODS,
    HttpFailure,
    InternalError,
    InvalidDeclaration,
)
from handlers.http.parameters import Parameters
from handlers.http.request import HttpRequest, HttpResponse, build, insertable_values
from templates.compile import Function, FunctionResult
from templates.functions import HttpFunction
from templates.model import Variable
from templates.parameters import declared_parameters
from templates.values import render

Send = Callable[[HttpRequest], Awaitable[HttpResponse]]
"""Sends a request and returns the response, or raises ``HttpFailure``; see ``HttpClient.send``."""

WAIT_TEXT_AFTER_S = 0.6
"""Seconds after which ``wait_text`` is spoken; a faster answer does not need it."""

RESULT_KEPT_S = 60.0
"""Seconds for which a result is kept for a model that was interrupted while waiting."""

PIPECAT_GRACE_S = 5.0
"""Seconds that pipecat waits beyond ``timeout_ms``: our timeout must come first, as its error is specific."""

REPEAT_NOTE = (
    "If the caller interrupts, it is carried out all the same: to learn what came of it, call it again with "
    "the same arguments. It is not done twice."
)


class HttpFunctions:
    """Creates the HTTP functions of all calls of a process, and keeps track of their requests."""

    def __init__(self, send: Send, decrypt: Callable[[str], str]) -> None:
        """Args:
        send: sends a request.
        decrypt: decrypts the stored value of a secret header; an exception makes the function fail.
        """
        self.send = send
        self._decrypt = decrypt
        self._running: set[asyncio.Task[FunctionResult]] = set()

    def bind(self, declaration: HttpFunction, variables: Sequence[Variable], call: CallContext) -> Function:
        """Make a function of one call from a declaration, to be compiled into a flow.

        Args:
            declaration: the function; if it is invalid (in a draft), calling it returns a failure.
            variables: the template's variables, which give the types of kept values.
            call: the call.
        """
        bound = _BoundFunction(declaration, variables, call, self)
        properties, required = declared_parameters(declaration.parameters)
        description = declaration.description
        if declaration.method not in SAFE_METHODS:
            description = f"{description}\n{REPEAT_NOTE}".lstrip()
        return Function(
            name=declaration.name,
            description=description,
            properties=properties,
            required=tuple(required),
            run=bound.run,
            cancel_on_interruption=True,
            timeout_secs=declaration.timeout_ms / 1000 + PIPECAT_GRACE_S,
        )

    async def close(self, wait_s: float = 5.0) -> None:
        """Wait for running requests for at most ``wait_s`` seconds, then cancel the rest."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=wait_s)
            for task in late:
                task.cancel()

    def decrypt_secret(self, stored: str) -> str:
        """Decrypt the stored value of a secret header.

        Raises:
            InvalidDeclaration: the value cannot be decrypted.
        """
        try:
            return self._decrypt(stored)
        except Exception as error:  # noqa: BLE001 - decryption fails in ways of the cipher's own
            logger.error("a secret header cannot be decrypted: {}", type(error).__name__)
            raise InvalidDeclaration(
                "Not done: a secret header of the function cannot be decrypted; it must be entered again."
            ) from None

    def start(self, work: Awaitable[FunctionResult], name: str) -> asyncio.Task[FunctionResult]:
        """Run ``work`` in a task that is only cancelled by ``close``."""
        task = asyncio.ensure_future(work)
        task.set_name(f"http function {name}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task


@dataclass(slots=True, eq=False)
class _PendingRequest:
    """A running request, or a finished one whose result the model has not received.

    ``finished_at`` is event-loop time in seconds, or None while the request runs.
    """

    task: asyncio.Task[FunctionResult]
    finished_at: float | None = None

    def set_finished(self, _: asyncio.Task[FunctionResult]) -> None:
        """Record the time at which the request finished."""
        self.finished_at = asyncio.get_running_loop().time()


class _BoundFunction:
    def __init__(
        self,
        declaration: HttpFunction,
        variables: Sequence[Variable],
        call: CallContext,
        functions: HttpFunctions,
    ) -> None:
        self._declaration = declaration
        self._variables = tuple(variables)
        self._call = call
        self._functions = functions
        self._parameters = Parameters(declaration.parameters)
        self._pending: dict[Hashable, _PendingRequest] = {}

    async def run(self, arguments: Mapping[str, Any]) -> FunctionResult:
        """Send the request and return the result for the model. Raises nothing except cancellation."""
        try:
            self._parameters.check(arguments)
            variables = self._call.variables()
            request = build(self._declaration, arguments, variables, self._functions.decrypt_secret)
            wait_text = render(
                self._declaration.wait_text or "", insertable_values(self._declaration, arguments, variables)
            )
            return await self._wait(request, wait_text)
        except HttpFailure as failure:
            return _failure_result(failure)
        except Exception as error:  # noqa: BLE001 - the top of a task
            # Top of a task: log the type only, because the message may quote the caller.
            logger.error("http function {}: {}", self._declaration.name, type(error).__name__)
            return _failure_result(InternalError())

    async def _wait(self, request: HttpRequest, wait_text: str) -> FunctionResult:
        """Wait for the request's task. A cancellation of the waiting does not cancel the task."""
        key, pending = self._pending_request(request)
        done, _ = await asyncio.wait({pending.task}, timeout=WAIT_TEXT_AFTER_S)
        if not done and wait_text.strip():
            await self._call.say(wait_text)
        await asyncio.wait({pending.task})
        if self._pending.get(key) is pending:
            del self._pending[key]
        return pending.task.result()

    def _pending_request(self, request: HttpRequest) -> tuple[Hashable, _PendingRequest]:
        now = asyncio.get_running_loop().time()
        self._pending = {
            key: pending
            for key, pending in self._pending.items()
            if pending.finished_at is None or now - pending.finished_at < RESULT_KEPT_S
        }
        key = (request.target, request.headers, request.body)
        pending = self._pending.get(key)
        if pending is None:
            pending = _PendingRequest(self._functions.start(self._perform(request), self._declaration.name))
            pending.task.add_done_callback(pending.set_finished)
            self._pending[key] = pending
        return key, pending

    async def _perform(self, request: HttpRequest) -> FunctionResult:
        """Send the request; every outcome is a result for the model."""
        began = perf_counter()
        outcome = "done"
        try:
            answer = read(await self._functions.send(request))
            result = FunctionResult(result=result_for_model(answer, self._declaration.max_result_bytes))
        except HttpFailure as failure:
            outcome = failure.name()
            return _failure_result(failure)
        except Exception as error:  # noqa: BLE001 - the top of a task
            outcome = type(error).__name__
            return _failure_result(InternalError())
        else:
            await self._keep(answer)
            return result
        finally:
            logger.info(
                "call {}: http function {} at {}: {} in {:.0f} ms",
                self._call.call_id,
                self._declaration.name,
                request.origin.host,
                outcome,
                (perf_counter() - began) * 1000,
            )

    async def _keep(self, answer: Any) -> None:
        """Set variables from the answer, even if the model was interrupted.

        A failure here is only logged: the request itself succeeded.
        """
        try:
            if values := values_to_keep(answer, self._declaration.keep, self._variables):
                await self._call.keep(values)
        except Exception as error:  # noqa: BLE001 - the caller gets the answer all the same
            logger.error(
                "http function {}: variables not set: {}", self._declaration.name, type(error).__name__
            )


def _failure_result(failure: HttpFailure) -> FunctionResult:
    return FunctionResult(result=failure.to_result(), failed=True)
