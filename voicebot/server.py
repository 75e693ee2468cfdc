"""The server process: uvicorn, told how telephone calls want to be served, started and stopped.

`voicebot serve` becomes `python -m voicebot.server`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import signal
import socket
import sys
from typing import TextIO

import httpx
import uvicorn
from loguru import logger

from voicebot import startup
from voicebot.api.app_state import AppState
from voicebot.app import Application, app_state_of, create_app
from voicebot.config import Settings
from voicebot.providers.registry import VARIABLES

WS_MAX_BYTES = 256 * 1024
"""Above the 64 KiB that a carrier's message may have, which the media socket itself answers with 1009."""

UNREAD_MS = 30_000
"""How long the kernel keeps what a client does not take before it drops the connection (on Linux)."""

_LOOK_S = 0.1


class CallServer(uvicorn.Server):
    """A server that says when it takes calls, and lets them end before it goes."""

    def __init__(self, app: Application, settings: Settings, out: TextIO = sys.stdout) -> None:
        """Serve ``app``; the ready line goes to ``out``."""
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                loop="uvloop" if sys.platform != "win32" else "auto",
                lifespan="on",
                log_config=None,
                access_log=False,
                ws_max_size=WS_MAX_BYTES,
                # A carrier's socket is never idle, and one that is slow to pong has a caller on the line.
                ws_ping_interval=None,
                ws_per_message_deflate=False,
                # Who may say X-Forwarded-Proto: a proxy on this machine, or those in FORWARDED_ALLOW_IPS.
                proxy_headers=True,
                server_header=False,
                timeout_graceful_shutdown=10,
            )
        )
        self._app = app
        self._settings = settings
        self._out = out

    @property
    def url(self) -> str:
        """Where the server is, once it is started."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        if host in ("0.0.0.0", "::"):  # noqa: S104 - a comparison
            host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so in one JSON line."""
        await _ask_for_nothing(self._app)
        await super().startup(sockets)
        self.freeze_heap()
        if self.started:
            self._let_go_of_who_does_not_read()
            print(
                json.dumps({"event": "ready", "url": self.url}, separators=(",", ":")),
                file=self._out,
                flush=True,
            )

    def freeze_heap(self) -> None:
        """Exempt all objects that exist now from garbage collection.

        They live as long as the process, and a full collection that visits them stops the audio of every call
        for 100 ms.
        """
        gc.collect()
        gc.freeze()

    def _let_go_of_who_does_not_read(self) -> None:
        # A response that was given up is closed once its buffers are empty: without this, never, when the
        # client lives and does not read. Connections inherit it from the sockets that listen.
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        for listening in (one for server in self.servers for one in server.sockets):
            if option is not None and listening.family in (socket.AF_INET, socket.AF_INET6):
                listening.setsockopt(socket.IPPROTO_TCP, option, UNREAD_MS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new calls, let those under way end, then stop. A second interrupt cuts them off.

        Webhooks are answered meanwhile: calls of other processes come through here too.
        """
        app_state = app_state_of(self._app)
        app_state.draining = True
        if app_state.call_registry.live:
            logger.info("waiting for {} calls", app_state.call_registry.live)
        await self._drain(app_state)
        await super().shutdown(sockets)

    async def _drain(self, app_state: AppState) -> None:
        draining = asyncio.create_task(app_state.call_registry.drain(self._settings.drain_timeout_ms / 1000))
        while not draining.done() and not self.force_exit:
            await asyncio.wait({draining}, timeout=_LOOK_S)
        if not draining.done():
            draining.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await draining


async def _ask_for_nothing(app: Application) -> None:
    """Have the routes worked out, which FastAPI does at the first request; no call has that long to wait."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        await client.get("/")


def run(app: Application, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    # uvicorn raises the signal again when it is done; we are done as well then, and without a fault.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    CallServer(app, settings).run()


def main() -> None:
    """Serve with the settings of the environment."""
    settings = startup.settings(*VARIABLES)
    run(create_app(settings), settings)


if __name__ == "__main__":
    main()
