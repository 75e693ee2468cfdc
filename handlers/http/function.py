"""An HTTP function on a call: what the model sees of it, and what happens when the model calls it.

A request that has left is never cut in half. It runs in a task of its own, a *flight*, while the call of the
function only waits for it. When the caller speaks meanwhile, pipecat cancels the waiting and shows the model
that the function was cancelled; the flight goes on to its end. The same function called again with the same
request joins the flight, or is given what it brought, so that nothing is done twice. The alternative,
pipecat's asynchronous tools, would let the agent talk on without the answer and lengthen every system prompt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from loguru import logger

from handlers.context import CallContext
from handlers.http.answer import kept, read, shown
from handlers.http.arguments import Parameters
from handlers.http.errors import SAFE_METHODS, Broken, HttpFailure, Misdeclared
from handlers.http.request import Reply, Request, build, visible
from templates.compile import Function, FunctionResult
from templates.functions import HttpFunction
from templates.model import Variable
from templates.parameters import declared_parameters
from templates.values import render

Send = Callable[[Request], Awaitable[Reply]]
"""Makes a request and brings the reply, or raises ``HttpFailure``; ``Courier.send`` is the real one."""

WAIT_TEXT_AFTER_S = 0.6
"""An answer that comes sooner needs no filler: the model's own words take as long."""

UNTOLD_S = 60.0
"""How long an answer is held for a model that was interrupted while it waited."""

PIPECAT_GRACE_S = 5.0
"""Our own timeout comes first, because it tells the model what happened; pipecat's is the net below."""

ONCE = (
    "If the caller interrupts, it is carried out all the same: to learn what came of it, call it again with "
    "the same arguments. It is not done twice."
)


class HttpFunctions:
    """The HTTP functions of all calls of a process."""

    def __init__(self, send: Send, decrypt: Callable[[str], str]) -> None:
        """``decrypt``: a secret header as it is stored → its text; whatever it raises fails the function."""
        self._send = send
        self._decrypt = decrypt
        self._under_way: set[asyncio.Task[FunctionResult]] = set()

    def bind(self, declaration: HttpFunction, variables: Sequence[Variable], call: CallContext) -> Function:
        """A declared function as a function of one call, ready to be compiled into a flow.

        Args:
            declaration: what is wrong with it (a draft's may be) is told to the model when it calls.
            variables: the template's, for the types of what is kept.
        """
        bound = _OnCall(declaration, variables, call, self)
        properties, required = declared_parameters(declaration.parameters)
        description = declaration.description
        if declaration.method not in SAFE_METHODS:
            description = f"{description}\n{ONCE}".lstrip()
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
        """Let what is under way come to its end, for ``wait_s`` at most."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=wait_s)
            for task in late:
                task.cancel()

    async def fetch(self, request: Request) -> Reply:
        """Make a request."""
        return await self._send(request)

    def open_secret(self, stored: str) -> str:
        """A secret header's text.

        Raises:
            Misdeclared: it cannot be read.
        """
        try:
            return self._decrypt(stored)
        except Exception as error:
            logger.error("a secret header cannot be read: {}", type(error).__name__)
            raise Misdeclared(
                "Not done: a secret of the function cannot be read; it has to be entered again."
            ) from None

    def start(self, work: Awaitable[FunctionResult], name: str) -> asyncio.Task[FunctionResult]:
        """Run ``work`` in a task that nothing but the end of the process stops."""
        task = asyncio.ensure_future(work)
        task.set_name(f"http function {name}")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task


@dataclass(slots=True, eq=False)
class _Flight:
    """A request on its way, or back and not yet told to the model. ``landed_at``: loop time in seconds."""

    task: asyncio.Task[FunctionResult]
    landed_at: float | None = None

    def land(self, _: asyncio.Task[FunctionResult]) -> None:
        """It is back."""
        self.landed_at = asyncio.get_running_loop().time()


class _OnCall:
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
        self._flights: dict[Hashable, _Flight] = {}

    async def run(self, arguments: Mapping[str, Any]) -> FunctionResult:
        """Make the request and tell the model what came of it; never raises but for cancellation."""
        try:
            self._parameters.check(arguments)
            variables = self._call.variables()
            request = build(self._declaration, arguments, variables, self._functions.open_secret)
            words = render(
                self._declaration.wait_text or "", visible(self._declaration, arguments, variables)
            )
            return await self._wait(request, words)
        except HttpFailure as failure:
            return _told(failure)
        except Exception as error:
            # The edge towards the model: the type alone, because a message may quote what the caller said.
            logger.error("http function {}: {}", self._declaration.name, type(error).__name__)
            return _told(Broken())

    async def _wait(self, request: Request, words: str) -> FunctionResult:
        """Wait for the request's flight, and leave it alone when the waiting is cancelled."""
        key, flight = self._flight(request)
        done, _ = await asyncio.wait({flight.task}, timeout=WAIT_TEXT_AFTER_S)
        if not done and words.strip():
            await self._call.say(words)
        await asyncio.wait({flight.task})
        if self._flights.get(key) is flight:
            del self._flights[key]
        return flight.task.result()

    def _flight(self, request: Request) -> tuple[Hashable, _Flight]:
        now = asyncio.get_running_loop().time()
        self._flights = {
            key: flight
            for key, flight in self._flights.items()
            if flight.landed_at is None or now - flight.landed_at < UNTOLD_S
        }
        key = (request.target, request.headers, request.body)
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight(self._functions.start(self._fly(request), self._declaration.name))
            flight.task.add_done_callback(flight.land)
            self._flights[key] = flight
        return key, flight

    async def _fly(self, request: Request) -> FunctionResult:
        """The request itself; its end is an answer for the model, whatever happens."""
        began = perf_counter()
        outcome = "done"
        try:
            answer = read(await self._functions.fetch(request))
            result = FunctionResult(result=shown(answer, self._declaration.max_result_bytes))
        except HttpFailure as failure:
            outcome = failure.name()
            return _told(failure)
        except Exception as error:
            outcome = type(error).__name__
            return _told(Broken())
        else:
            self._keep(answer)
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

    def _keep(self, answer: Any) -> None:
        """Set variables from the answer, even when the model was interrupted and has not seen it.

        The request was made: that the call is over by now, or cannot keep anything, does not undo it.
        """
        try:
            if values := kept(answer, self._declaration.keep, self._variables):
                self._call.keep(values)
        except Exception as error:
            logger.error("http function {} kept nothing: {}", self._declaration.name, type(error).__name__)


def _told(failure: HttpFailure) -> FunctionResult:
    return FunctionResult(result=failure.told(), failed=True)
