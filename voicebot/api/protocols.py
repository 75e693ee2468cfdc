"""uvicorn's protocols with the limits of ``voicebot.api.connections``."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import h11
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from voicebot.api.app_state import AppState
from voicebot.api.connections import client_group
from voicebot.api.direct_messages import DirectWebSocketProtocol
from voicebot.api.limits import Limit, Limits, limit_exceeded
from voicebot.api.problems import ApiProblem

Phase = Literal["header", "body"]
"""What the client owes."""


class LimitedHttpProtocol(H11Protocol):
    """HTTP/1.1 with a deadline for the headers and the body of each request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or refuse it."""
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        self._owed: tuple[Phase, object] | None = None
        app_state = app_state_of(self.config.app)
        self._limits: Limits = app_state.limits
        self._open = app_state.connections
        proxies = self.config.forwarded_allow_ips
        group = client_group(
            self.client[0] if self.client else "", proxies if isinstance(proxies, str) else ",".join(proxies)
        )
        problem = self._open.opened(self, group)
        if problem is None:
            self._follow()
        else:
            self._answer(problem)

    def data_received(self, data: bytes) -> None:
        """Read from the client."""
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._follow()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._leave()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over to the WebSocket protocol, which counts it from now on."""
        self._leave()
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not HTTP, or whose headers are too large."""
        limits = self._limits
        if len(self.conn.trailing_data[0]) > limits.header_bytes + limits.target_bytes:
            detail = f"The headers may have at most {limits.header_bytes} bytes."
            self._open.reached("headers", detail)
            self._answer(limit_exceeded("headers", "headers_too_large", detail))
        else:
            super().send_400_response(msg)

    def drop(self) -> None:
        """Close the connection at once."""
        self._cancel_deadline()
        self.transport.abort()

    def _follow(self) -> None:
        """Start or stop the deadline if what the client owes has changed."""
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return
        phase = self._phase()
        owed = None if phase is None else (phase, self.cycle)
        if owed == self._owed:
            return
        self._owed = owed
        self._cancel_deadline()
        if phase is None:
            self._open.owes_nothing(self)
            return
        self._open.owes(self)
        limits = self._limits
        seconds = limits.header_deadline_s if phase == "header" else limits.body_deadline_s
        self._deadline = self.loop.call_later(seconds, self._expire, phase)

    def _phase(self) -> Phase | None:
        if self.conn.their_state is h11.SEND_BODY:
            return "body"
        return "header" if self.conn.their_state is h11.IDLE else None

    def _expire(self, phase: Phase) -> None:
        limit: Limit = "header_deadline" if phase == "header" else "body_deadline"
        self._open.reached(limit, f"a client did not send the {phase} of a request in time")
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            detail = f"The {phase} of the request was not received in time."
            self._answer(limit_exceeded(limit, "request_timeout", detail))
        else:
            self.transport.close()

    def _answer(self, problem: ApiProblem) -> None:
        """Answer with a problem in place of the application, and close."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        response = problem.response()
        status = response.status_code
        headers = [pair for pair in response.raw_headers if pair != CLOSE_HEADER] + [CLOSE_HEADER]
        for event in (
            h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status]),
            h11.Data(data=bytes(response.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _leave(self) -> None:
        self._cancel_deadline()
        self._open.closed(self)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class CountedWebSocketProtocol(DirectWebSocketProtocol):
    """A WebSocket that counts as a connection. Its deadlines are those of its route."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection; it was admitted as one of HTTP."""
        super().connection_made(transport)
        self._open = app_state_of(self.config.app).connections
        self._open.upgraded(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._open.closed(self)
        super().connection_lost(exc)

    def drop(self) -> None:
        """Close the connection at once."""
        self.transport.abort()


def app_state_of(app: Any) -> AppState:
    """The state of a started application."""
    app_state: AppState = app.state.app_state
    return app_state
