"""A server process without the friendly prechecks: `python -m tests.api.server`."""

from __future__ import annotations

from voicebot import server, startup
from voicebot.app import create_app


def main() -> None:
    """Serve until SIGTERM."""
    settings = startup.settings()
    server.run(create_app(settings, prechecks=()), settings)


if __name__ == "__main__":
    main()
