"""uvicorn's protocols with the limits of ``voicebot.api.connections``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from time import perf_counter
from typing import Any, Literal

from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from voicebot.api.app_state import AppState
from voicebot.api.carriers.direct_messages import DirectWebSocketProtocol
from voicebot.api.carriers.settled_requests import FINGERPRINT, fingerprint
from voicebot.api.carriers.webhook_path import PREFIX as WEBHOOKS
from voicebot.api.connections import client_group
from voicebot.api.limits import Limit, Limits, limit_exceeded
from voicebot.api.problems import ApiProblem

Phase = Literal["header", "body"]
"""The part of a request that is to come from the client."""

HELD_BYTES = 16 * 1024
"""The application is started before a webhook's body is complete if it has more; a status has below 2 KB."""

_METHOD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}) ")
_KNOWN_METHODS = frozenset({b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS"})


class LimitedHttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 with a deadline for the headers and the body of each request, and a limit of what is buffered.

    A carrier's webhook that repeats a settled one is answered here, without the application.

    The parser is llhttp (``httptools``), which has neither. In addition, the header ``Host`` is required (RFC
    9112, section 3.2), and trailers are ignored. A method that llhttp does not know is passed to the
    application like any other, which answers with the allowed methods.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or refuse it."""
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        self._pending: tuple[Phase, object] | None = None
        self._in_head = self._in_body = False
        self._buffered = 0
        """Bytes of a head, of the header of a chunk, or of a trailer, that is not complete."""
        self._other_method = b""
        """The method of the request, if llhttp reads another one in its place."""
        self._held: Any = None
        """The application, while it is not started because the body of a webhook is not complete."""
        app_state = app_state_of(self.config.app)
        self._limits: Limits = app_state.limits
        self._open = app_state.connections
        self._settled = app_state.settled_requests
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
        self._buffered += len(data)
        begins = not (self._in_head or self._in_body)
        super().data_received(self._with_known_method(data) if begins else data)
        limits = self._limits
        if self._buffered > limits.header_bytes + limits.target_bytes and not self._is_over():
            self._refuse_size()
        self._follow()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._unset_keepalive_if_required()  # the request before it may be in the same data
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are ignored."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the application, if the request names the host once."""
        self._buffered = 0
        self._in_head = False
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts != 1 and (hosts or self.parser.get_http_version() != "1.0"):
            raise ValueError("a request needs one header Host")
        self._in_body = True
        super().on_headers_complete()
        if self._other_method:
            self.scope["method"] = self._other_method.decode()
            self._other_method = b""

    def on_body(self, body: bytes) -> None:
        """Give a part of the body to the application."""
        self._buffered = 0
        super().on_body(body)
        if self._held is not None and len(self.cycle.body) > HELD_BYTES:
            self._start_held()

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._buffered = 0
        self._in_body = False
        super().on_message_complete()
        if self._held is not None and not self._answer_settled():
            self._start_held()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._follow()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._held = None
        self._leave()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to the WebSocket protocol, which counts it from now on."""
        self._leave()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """Answer malformed HTTP; if it follows a request, close after the answer to that request."""
        if self._in_body and (self.pipeline or self.cycle.response_started):
            self.transport.close()
        elif self._is_answering() and not self._in_body:
            self.cycle.keep_alive = False
        else:
            super().send_400_response(msg)

    def drop(self) -> None:
        """Close the connection at once."""
        self._cancel_deadline()
        self.transport.abort()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Start the application; a webhook waits until it is known whether it repeats a settled one."""
        waits_for_body = self._in_body and cycle is self.cycle and not cycle.waiting_for_100_continue
        if waits_for_body and not self.flow.write_paused and cycle.scope["path"].startswith(WEBHOOKS):
            self._held = app
        else:
            super()._start_asgi_task(cycle, app)

    def _start_held(self) -> None:
        app, self._held = self._held, None
        super()._start_asgi_task(self.cycle, app)

    def _answer_settled(self) -> bool:
        """Answer the request with 204 if it repeats a settled one."""
        start = perf_counter()
        cycle = self.cycle
        sent = fingerprint(cycle.scope, cycle.body)
        seconds = self._settled.seconds(sent)
        if seconds is None:
            cycle.scope["state"][FINGERPRINT] = sent
            return False
        self._held = None
        cycle.response_started = cycle.response_complete = True
        headers = self.server_state.default_headers
        self.transport.write(_head(204, headers if cycle.keep_alive else [*headers, CLOSE_HEADER]))
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()
        seconds.observe(perf_counter() - start)
        return True

    def _with_known_method(self, data: bytes) -> bytes:
        """The beginning of a request, with a method that llhttp knows."""
        found = _METHOD.match(data)
        if found is None or found[1] in _KNOWN_METHODS:
            return data
        self._other_method = found[1]
        return b"TRACE" + data[found.end(1) :]

    def _refuse_size(self) -> None:
        """Refuse a request that would need too large a buffer."""
        detail = f"The headers may have at most {self._limits.header_bytes} bytes."
        self._open.reached("headers", detail)
        if self._in_body or self._is_answering():
            self.transport.close()
        else:
            self._answer(limit_exceeded("headers", "headers_too_large", detail))

    def _is_over(self) -> bool:
        """Whether the connection is closing, or is a WebSocket now."""
        return self.transport.is_closing() or self.transport.get_protocol() is not self

    def _is_answering(self) -> bool:
        """Whether the application has not completed its answer to the last request, or one before it."""
        return bool(self.pipeline) or (self.cycle is not None and not self.cycle.response_complete)

    def _follow(self) -> None:
        """Start or stop the deadline if the pending part of the request has changed."""
        if self._is_over():
            return
        phase = self._phase()
        pending = None if phase is None else (phase, self.cycle)
        if pending == self._pending:
            return
        self._pending = pending
        self._cancel_deadline()
        if phase is None:
            self._open.request_received(self)
            return
        self._open.request_pending(self)
        limits = self._limits
        seconds = limits.header_deadline_s if phase == "header" else limits.body_deadline_s
        self._deadline = self.loop.call_later(seconds, self._expire, phase)

    def _phase(self) -> Phase | None:
        """The pending part; None while a request waits for the answer to the previous one."""
        if self._in_body and not self.pipeline:
            return "body"
        return None if self._is_answering() else "header"

    def _expire(self, phase: Phase) -> None:
        limit: Limit = "header_deadline" if phase == "header" else "body_deadline"
        self._open.reached(limit, f"a client did not send the {phase} of a request in time")
        if phase == "body" and self.cycle.response_started:
            self.transport.close()
        else:
            detail = f"The {phase} of the request was not received in time."
            self._answer(limit_exceeded(limit, "request_timeout", detail))

    def _answer(self, problem: ApiProblem) -> None:
        """Answer with a problem in place of the application, and close."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        response = problem.response()
        headers = [pair for pair in response.raw_headers if pair != CLOSE_HEADER] + [CLOSE_HEADER]
        self.transport.write(_head(response.status_code, headers) + bytes(response.body))
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


def _head(status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The status line and the headers of an answer."""
    lines = [b"%s: %s\r\n" % pair for pair in headers]
    return b"".join((STATUS_LINE[status], *lines, b"\r\n"))


def app_state_of(app: Any) -> AppState:
    """The state of a started application."""
    app_state: AppState = app.state.app_state
    return app_state
