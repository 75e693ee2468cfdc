"""The server process: uvicorn, with settings, start and shutdown for phone calls."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import signal
import socket
import sys
from types import FrameType
from typing import TextIO

import uvicorn
from loguru import logger

from voicebot import carriers, startup
from voicebot.api.app_state import AppState
from voicebot.api.carriers.webhook_path import WebhookPath
from voicebot.api.protocols import CountedWebSocketProtocol, LimitedHttpProtocol, app_state_of
from voicebot.app import Application, create_app
from voicebot.call.leases import Lease
from voicebot.config import Settings
from voicebot.providers.registry import VARIABLES
from voicebot.workers import Worker

WS_MAX_BYTES = 256 * 1024
"""Above the 64 KiB that a carrier's message may have; the media socket closes with 1009 itself."""

UNREAD_MS = 30_000
"""How long sent data may stay unread before the kernel drops the connection (on Linux), in ms."""

YOUNG_OBJECTS, YOUNG_COLLECTIONS = 5_000, 2
"""How many new objects, and how many collections of them, come before a garbage collection of the youngest
and of the middle generation. Python's default of 700 and 10 takes 4 % of the CPU time of a busy server, this
1 %; a collection of the middle generation still visits less than 20,000 objects."""

FULL_COLLECTIONS = 100
"""How many collections of the middle generation come before one of all objects. With ten calls it visits
100,000 objects, which stops their audio for 100 ms; Python's default of 10 does so after every few calls."""

ENDED_CALLS = 100
"""After so many ended calls all objects are visited, because of the memory that the calls have left."""

ENDED_CALLS_WHEN_IDLE = 10
"""The same while no call is live, so that no audio is stopped."""

_DRAIN_POLL_S = 0.1
_CLOSE_TIMEOUT_S = 15.0
"""How long the last writes may take, in seconds; a call that was handed over is observed for 10 s."""
_TICKS_PER_S = 10


class CallServer(uvicorn.Server):
    """A server that reports when it is ready, and lets calls end before it stops."""

    def __init__(self, app: Application, settings: Settings, out: TextIO = sys.stdout) -> None:
        """Serve ``app``, and print the ready line to ``out``."""
        super().__init__(
            uvicorn.Config(
                WebhookPath(app),
                http=LimitedHttpProtocol,
                ws=CountedWebSocketProtocol,
                host=settings.host,
                port=settings.port,
                loop="uvloop" if sys.platform != "win32" else "auto",
                lifespan="on",
                log_config=None,
                access_log=False,
                ws_max_size=WS_MAX_BYTES,
                # A carrier's socket is never idle, and closing one for a late pong would end a call.
                ws_ping_interval=None,
                ws_per_message_deflate=False,
                # X-Forwarded-Proto is accepted from this machine and from FORWARDED_ALLOW_IPS.
                proxy_headers=True,
                server_header=False,
                timeout_graceful_shutdown=10,
            )
        )
        self._app = app
        self._settings = settings
        self._out = out
        self._ends_calls = False
        self._collected = 0
        """How many calls had ended when all objects were visited."""

    @property
    def url(self) -> str:
        """The server's URL, once it is started."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        if host in ("0.0.0.0", "::"):  # noqa: S104 - a comparison
            host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then print the ready line: one line of JSON."""
        await super().startup(sockets)
        self.freeze_heap()
        if self.started:
            self._limit_unread_data()
            print(
                json.dumps({"event": "ready", "url": self.url}, separators=(",", ":")),
                file=self._out,
                flush=True,
            )

    def freeze_heap(self) -> None:
        """Exempt all objects that exist now from garbage collection, and collect that of others less often.

        They live as long as the process, and a full collection that visits them stops the audio of every call
        for 100 ms.
        """
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS, YOUNG_COLLECTIONS, FULL_COLLECTIONS)

    def collect_ended_calls(self) -> None:
        """Collect what ended calls have left, if there are many or if no call is live."""
        calls = app_state_of(self._app).call_registry
        if calls.ended_calls - self._collected >= (ENDED_CALLS if calls.live else ENDED_CALLS_WHEN_IDLE):
            self._collected = calls.ended_calls
            gc.collect()

    def _limit_unread_data(self) -> None:
        # An abandoned response is closed when its buffers are empty: never if the client does not read.
        # Connections inherit the option from the listening sockets.
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        for listening in (one for server in self.servers for one in server.sockets):
            if option is not None and listening.family in (socket.AF_INET, socket.AF_INET6):
                listening.setsockopt(socket.IPPROTO_TCP, option, UNREAD_MS)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: uvicorn's work; once a second, exhausted descriptors and garbage."""
        if counter % _TICKS_PER_S == 0:
            app_state_of(self._app).connections.check_descriptors()
            self.collect_ended_calls()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new calls, and let the present ones end or hand them over; then stop.

        Webhooks are answered in the meantime, because they may be for calls of other processes.
        """
        app_state = app_state_of(self._app)
        app_state.draining = True
        if app_state.call_registry.live:
            logger.info("waiting for {} calls", app_state.call_registry.live)
        await self._drain(app_state)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """At the first signal, stop; at the second, end the remaining calls; at the third, stop at once."""
        if self.should_exit and not self._ends_calls:
            self._ends_calls = True
        else:
            super().handle_exit(sig, frame)

    async def _drain(self, app_state: AppState) -> None:
        draining = asyncio.create_task(app_state.call_registry.drain(self._settings.drain_timeout_ms / 1000))
        while not draining.done() and not self._ends_calls and not self.force_exit:
            await asyncio.wait({draining}, timeout=_DRAIN_POLL_S)
        if not draining.done():
            draining.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await draining
        if not self.force_exit:
            await app_state.call_registry.close(_CLOSE_TIMEOUT_S)


class WorkerServer(CallServer):
    """One of several worker processes, which listen on the same port."""

    def __init__(self, app: Application, settings: Settings, control: socket.socket) -> None:
        """Serve ``app``; ``control`` leads to the supervisor.

        The supervisor sends a line with the number of each signal that it receives, and closes its end when
        it dies. A signal to this process itself does not count as a further one, because a terminal and
        systemd send theirs to all processes.
        """
        super().__init__(app, settings, out=control.makefile("w"))
        self._control = control
        self._received = b""
        self._obeyed = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, print the ready line, and follow the supervisor."""
        await super().startup(sockets)
        self._control.setblocking(False)
        asyncio.get_running_loop().add_reader(self._control, self._follow_supervisor)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop as after the first signal."""
        if not self.should_exit:
            super().handle_exit(sig, frame)

    def _follow_supervisor(self) -> None:
        try:
            data = self._control.recv(4096)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._control)
            logger.error("the supervisor has died: this worker stops")
            self.handle_exit(signal.SIGTERM, None)
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._obey(int(line))

    def _obey(self, sig: int) -> None:
        self._obeyed += 1
        if self._obeyed == 1:
            self.handle_exit(sig, None)
        else:
            super().handle_exit(sig, None)


def run(settings: Settings, lease: Lease | None = None) -> None:
    """Take calls until SIGTERM or SIGINT; ``lease`` as in ``create_app``."""
    _prepare(settings)
    CallServer(create_app(settings, lease=lease), settings).run()


def run_worker(
    settings: Settings, worker: Worker, sockets: list[socket.socket], control: socket.socket
) -> None:
    """Take calls as one of several processes, until the supervisor says otherwise.

    Args:
        settings: those of all workers.
        worker: which of them this is.
        sockets: where it listens; the first one is the server's port.
        control: the connection to the supervisor.
    """
    _prepare(settings)
    WorkerServer(create_app(settings, worker=worker), settings, control).run(sockets)


def _prepare(settings: Settings) -> None:
    startup.validate(settings, VARIABLES | carriers.VARIABLES)
    # uvicorn raises the signal again when it has stopped; the process then ends with status 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
