"""How services connect to the WebSockets of vendors."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from pipecat.services.websocket_service import WebsocketService
from websockets.asyncio.client import ClientConnection

TTS_QUIET_S = 3600.0
"""After how much time without audio pipecat takes a text for spoken (``stop_frame_timeout_s``): never.

By default it does so after 3 s, in which a voice that hangs is not heard to do so while its earlier audio
plays: the rest of an answer would be lost. The silence watchdog judges voices.
"""


@cache
def tls_context() -> ssl.SSLContext:
    """The context that all calls share; reading the root certificates blocks for tens of ms, once."""
    return ssl.create_default_context()


def connection_options(url: str) -> dict[str, Any]:
    """The options of ``websockets.connect`` for a vendor's URL.

    Messages are not compressed: audio gets hardly smaller, and compressing it took a quarter of the CPU time
    of a call.
    """
    return {"compression": None, "ssl": tls_context() if urlsplit(url).scheme == "wss" else None}


class EconomicalConnection(WebsocketService):
    """For pipecat's services: connects without compression and with the shared TLS context.

    The overridden method is private; pipecat has no public way (docs/decisions/0026-audio-path.md).
    """

    _last_opened: ClientConnection | None = None

    async def _websocket_connect(self, uri: str, **kwargs: Any) -> Any:
        self._last_opened = await super()._websocket_connect(uri, **{**connection_options(uri), **kwargs})
        return self._last_opened

    async def cleanup(self) -> None:
        """Release the service, and close the socket that it may have left open.

        ``ElevenLabsTTSService`` waits for the vendor to hang up. When a call ends, the task that waits is
        cancelled, and the connection is forgotten, but not closed.
        """
        try:
            await super().cleanup()  # type: ignore[misc]
        finally:
            if self._last_opened is not None:
                await self._last_opened.close()  # returns at once when it is closed already
