"""Server-sent events over ASGI: a client too slow to take them is cut off, and resumes from what it has.

The format is that of https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from loguru import logger
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    # For nginx, which would hold events back: https://nginx.org/en/docs/http/ngx_http_proxy_module.html
    "X-Accel-Buffering": "no",
}


def event(name: str, data: Mapping[str, Any], id: int | None = None) -> str:
    """One event; its data is one line of JSON."""
    numbered = "" if id is None else f"id: {id}\n"
    return f"{numbered}event: {name}\ndata: {json.dumps(data, separators=(',', ':'), ensure_ascii=False)}\n\n"


class EventStream(Response):
    """A response that goes on for as long as ``chunks`` does, or until the client is gone or too slow."""

    def __init__(self, chunks: AsyncGenerator[str, None], *, grace_s: float) -> None:
        """``chunks`` are whole events and comments; who leaves them unread for ``patience_s`` is cut off."""
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._chunks = chunks
        self._grace_s = grace_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One client."""
        del scope
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        gone = asyncio.create_task(_gone(receive))
        sending = asyncio.create_task(self._send_all(send))
        try:
            await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (gone, sending):
                task.cancel()
            await asyncio.gather(gone, sending, return_exceptions=True)
            await self._chunks.aclose()

    async def _send_all(self, send: Send) -> None:
        try:
            async for chunk in self._chunks:
                async with asyncio.timeout(self._grace_s):
                    await send({"type": "http.response.body", "body": chunk.encode(), "more_body": True})
        except TimeoutError:
            # Returning without the last chunk has the server close the connection.
            logger.warning("a follower of the desk was too slow and was cut off")
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
