"""How services connect to the WebSockets of vendors."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from pipecat.services.websocket_service import WebsocketService


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

    The overridden method is private; pipecat has no public way (docs/decisions/0017-providers.md).
    """

    async def _websocket_connect(self, uri: str, **kwargs: Any) -> Any:
        return await super()._websocket_connect(uri, **{**connection_options(uri), **kwargs})
