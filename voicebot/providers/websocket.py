"""How services connect to the WebSockets of vendors."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from pipecat.services.websocket_service import WebsocketService
from websockets.asyncio.client import ClientConnection

from handlers.http.client import public_tls

TTS_QUIET_S = 3600.0
"""The time after which pipecat completes a TTS context without audio (``stop_frame_timeout_s``): never.

With the default of 3 s, the rest of an answer would be lost if a voice hangs while its earlier audio is still
playing. The silence watchdog detects a voice that hangs.
"""


def connection_options(url: str) -> dict[str, Any]:
    """The options of ``websockets.connect`` for a vendor's URL.

    Messages are not compressed: audio hardly gets smaller, and compression took a quarter of the CPU time of
    a call.
    """
    return {"compression": None, "ssl": public_tls() if urlsplit(url).scheme == "wss" else None}


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
