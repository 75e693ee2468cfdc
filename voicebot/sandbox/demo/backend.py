"""The company's own system: the HTTP server that the functions of the templates call."""

from __future__ import annotations

import secrets
from typing import Self

from aiohttp import web

_HOST = "127.0.0.1"
_ACCOUNTS = {"4471": {"balance": "forty two dollars", "due": "Friday"}}


class Backend:
    """A small HTTP server on loopback: `GET /accounts/{number}` and `POST /visits`, with a bearer token."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(16)
        self.visits: list[str] = []
        self._address = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.add_routes(
            [web.get("/accounts/{number}", self._account), web.post("/visits", self._visit)]
        )
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, _HOST, 0).start()
        host, port = self._runner.addresses[0][:2]
        self._address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def address(self) -> str:
        """`host:port`."""
        return self._address

    async def _account(self, request: web.Request) -> web.Response:
        self._authorize(request)
        account = _ACCOUNTS.get(request.match_info["number"])
        if account is None:
            return web.json_response({"error": "There is no account of this number."}, status=404)
        return web.json_response(account)

    async def _visit(self, request: web.Request) -> web.Response:
        self._authorize(request)
        asked = await request.json()
        day = str(asked["day"])
        self.visits.append(f"{day} in {asked['postal_code']}")
        return web.json_response({"appointment": f"{day} at nine"}, status=201)

    def _authorize(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            raise web.HTTPUnauthorized
