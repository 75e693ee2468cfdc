"""``python -m voicebot.sandbox``: the vendors' servers in a process of their own, until SIGINT or SIGTERM.

It prints one line of JSON with the addresses, and with the environment that makes a voicebot server use
them: {"event": "ready", "openai_url": …, "deepgram_url": …, "elevenlabs_url": …, "twilio_url": …,
"control_url": …, "env": {…}}.
With ``--addresses-first`` it prints the same line before, with the event ``addresses``, when they are chosen.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from voicebot.sandbox.carrier import Carrier, CarrierSettings
from voicebot.sandbox.environment import TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN, Sandbox


def main() -> None:
    """Start the servers and wait for SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m voicebot.sandbox", description=__doc__)
    parser.add_argument("--phrases", type=Path, help="a file with what callers will say, a phrase a line")
    parser.add_argument(
        "--public-url",
        help="PUBLIC_URL of the voicebot server: also run a carrier, which the server can use through REST",
    )
    parser.add_argument(
        "--end-with-stdin", action="store_true", help="end when standard input ends: when the parent dies"
    )
    parser.add_argument(
        "--addresses-first",
        action="store_true",
        help="print the addresses before the servers answer there: a second to start something else in",
    )
    options = parser.parse_args()
    phrases = options.phrases.read_text(encoding="utf-8").splitlines() if options.phrases else []
    asyncio.run(_run(Sandbox(phrases=phrases), options))


async def _run(sandbox: Sandbox, options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    if options.end_with_stdin:
        await asyncio.get_running_loop().connect_read_pipe(lambda: _UntilEnd(stop), sys.stdin)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if options.addresses_first:
        _print(sandbox, "addresses")
    async with sandbox:
        if options.public_url:
            settings = CarrierSettings(
                public_url=options.public_url, account_sid=TWILIO_ACCOUNT_SID, auth_token=TWILIO_AUTH_TOKEN
            )
            await sandbox.attach(Carrier(settings))
        _print(sandbox, "ready")
        await stop.wait()


def _print(sandbox: Sandbox, event: str) -> None:
    urls = {f"{name}_url": url for name, url in asdict(sandbox.bind()).items()}
    print(json.dumps({"event": event, **urls, "env": sandbox.env}), flush=True)


class _UntilEnd(asyncio.Protocol):
    """Sets an event when a pipe ends."""

    def __init__(self, ended: asyncio.Event) -> None:
        self._ended = ended

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end of the pipe is closed."""
        self._ended.set()


if __name__ == "__main__":
    main()
