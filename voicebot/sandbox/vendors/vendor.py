"""The common part of the vendors' servers: they check keys, apply faults and record requests."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from voicebot.sandbox.vendors.faults import STATUS, Fault, Faults, Server
from voicebot.sandbox.vendors.usage import Usage

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Presented = Callable[[Mapping[str, str]], str]
"""Reads the key from a request's headers."""
Wording = Callable[[int], dict[str, Any]]
"""Makes the body of an error from its status."""


class Refusal(Exception):
    """The server refuses with an HTTP status or, on an open websocket, with an error and a close."""

    def __init__(self, status: int, retry_after_s: float | None = None) -> None:
        super().__init__(f"refused with {status}")
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """The header Retry-After, if there is one."""
        return {} if self.retry_after_s is None else {"Retry-After": f"{self.retry_after_s:g}"}


class Cut(Exception):
    """The connection was aborted; nothing can be answered."""


class Silent(Exception):
    """The server does not answer a message, and continues."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """One vendor: its name, its key, and the form of its errors.

    `presented` reads the key from a request's headers; `error` makes the body of an error from its status.
    """

    server: Server
    key: str
    presented: Presented
    error: Wording
    faults: Faults = field(default_factory=Faults)
    usage: Usage = field(default_factory=Usage)

    async def meet(self, request: web.Request) -> None:
        """Apply a fault of stage `connect`, then check the key.

        Raises:
            Refusal: a fault applies, or the key is wrong.
            Cut: a fault applies.
        """
        body = (await request.text()) if request.can_read_body else ""
        fault = self.faults.strike(self.server, "connect", f"{request.path_qs} {body}")
        await apply_fault(fault, request)
        if not hmac.compare_digest(self.presented(request.headers).encode(), self.key.encode()):
            raise Refusal(401)

    async def interrupt(self, request: web.Request, sent: str) -> None:
        """Apply a fault of stage `message`.

        Raises:
            Refusal, Cut, Silent: a fault applies.
        """
        await apply_fault(self.faults.strike(self.server, "message", f"{request.path_qs} {sent}"), request)

    def application(self) -> web.Application:
        """Return an application without routes that calls `meet` for each request."""

        @web.middleware
        async def meeting(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                await self.meet(request)
                return await handler(request)
            except Refusal as refusal:
                return web.json_response(
                    self.error(refusal.status), status=refusal.status, headers=refusal.headers
                )
            except Cut:
                return web.Response()

        return web.Application(middlewares=[meeting])


async def apply_fault(fault: Fault | None, request: web.Request) -> None:
    """Apply a fault to a request; None: do nothing.

    Raises:
        Refusal: for a kind that is an HTTP status.
        Cut: for `drop`, after the connection was aborted.
        Silent: for `silent`.
    """
    if fault is None:
        return
    if fault.kind == "slow":
        await asyncio.sleep(fault.delay_ms / 1000)
    elif fault.kind == "hang":
        await asyncio.Event().wait()
    elif fault.kind == "silent":
        raise Silent
    elif fault.kind == "drop":
        cut(request)
        raise Cut
    else:
        raise Refusal(STATUS[fault.kind], fault.retry_after_s if fault.kind == "rate_limited" else None)


def cut(request: web.Request) -> None:
    """Abort the connection of a request."""
    if request.transport is not None:
        request.transport.abort()


def parse_object(text: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: it is not JSON, or not an object.
    """
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("a JSON object is expected")  # noqa: TRY004
    return value
