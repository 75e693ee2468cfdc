"""A headless Chromium with a microphone that plays a file, driven by the DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium")

_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--remote-debugging-port=0",
)
_START_S = 60.0
_UNTIL_S = 60.0


class Page:
    """One page of the browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = count(1)

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, awaited if it is a promise."""
        parameters = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        answer = await self._ask("Runtime.evaluate", parameters)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        try:
            async with asyncio.timeout(_UNTIL_S):
                while not await self.evaluate(expression):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            text = await self.evaluate("document.body.innerText")
            raise AssertionError(f"{expression} stayed false: {text}") from None

    async def click(self, selector: str) -> None:
        """Click an element once it is there and enabled."""
        found = f"document.querySelector({json.dumps(selector)})"
        await self.until(f"{found} !== null && !{found}.disabled")
        await self.evaluate(f"{found}.click()")

    async def _ask(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        number = next(self._ids)
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(await self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                result: dict[str, Any] = message["result"]
                return result


@contextlib.asynccontextmanager
async def opened(url: str, microphone: Path) -> AsyncIterator[Page]:
    """Open a page in a new browser.

    Args:
        url: of the page.
        microphone: a WAV file that the microphone plays again and again.
    """
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            CHROMIUM,
            *_FLAGS,
            f"--use-file-for-fake-audio-capture={microphone}",
            f"--user-data-dir={profile}",
            url,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            address = await _page_address(Path(profile), url)
            async with connect(address, max_size=None, ping_interval=None, compression=None) as socket:
                yield Page(socket)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _page_address(profile: Path, url: str) -> str:
    """The DevTools address of the page, once the browser has opened it."""
    written = profile / "DevToolsActivePort"
    async with asyncio.timeout(_START_S), httpx.AsyncClient(verify=False, trust_env=False) as client:  # noqa: S501
        while True:
            lines = written.read_text().splitlines() if written.exists() else []
            if len(lines) == 2:
                with contextlib.suppress(httpx.TransportError):
                    targets = (await client.get(f"http://127.0.0.1:{lines[0]}/json/list")).json()
                    for target in targets:
                        if target["type"] == "page" and target["url"] == url:
                            return str(target["webSocketDebuggerUrl"])
            await asyncio.sleep(0.1)
